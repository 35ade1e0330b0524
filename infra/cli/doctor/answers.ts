/** What the server answers where it is: itself, with its keys, and without taking paths apart. */
import * as v from 'valibot'
import { checkedKeyDocument } from '../../../shared/federation/key-document.ts'
import { asksItself } from '../../../shared/federation/server-authentication.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import { signText } from '../../../shared/matrix/signatures.ts'
import { formatXMatrix, signedRequestText } from '../../../shared/matrix/x-matrix.ts'
import { type Answered, ask } from './ask.ts'
import { type Finding, note, ok, skipped, wrong } from './finding.ts'
import type { Instruments, Patient } from './patient.ts'
import type { Place } from './whereabouts.ts'

const version = v.object({ server: v.object({ name: v.string(), version: v.optional(v.string(), '') }) })
const clientDocument = v.object({ 'm.homeserver': v.object({ base_url: v.pipe(v.string(), v.url()) }) })
const passAll = 'have the proxy pass /_matrix and /.well-known/matrix on to Ganglion'
const hourMs = 3_600_000

type Ask = (uri: string, headers?: Readonly<Record<string, string>>) => ReturnType<typeof ask>

/** At one place. */
export function asker({ host, connectTo }: Place, { egress }: Instruments): Ask {
  return (uri, headers = {}) =>
    ask(egress, { url: `https://${host}${uri}`, connectTo, headers: { accept: 'application/json', ...headers } })
}

export async function checkVersion(askIt: Ask): Promise<Finding> {
  const check = '/_matrix/federation/v1/version'
  const answer = await askIt(check)
  const bad = unanswered(check, answer, passAll)
  if (bad) return bad
  const parsed = v.safeParse(version, (answer as Answered).json)
  if (!parsed.success) return wrong(check, 'what answers is no homeserver', passAll)
  const { name, version: number } = parsed.output.server
  return ok(check, `${name} ${number}`.trim())
}

/** https://spec.matrix.org/v1.19/server-server-api/#publishing-keys */
export async function checkKeys(askIt: Ask, { name, own }: Patient, { clock }: Instruments): Promise<Finding> {
  const check = 'keys'
  const answer = await askIt('/_matrix/key/v2/server')
  const bad = unanswered(check, answer, passAll)
  if (bad) return bad
  const document = (answer as Answered).json
  if (!isJsonObject(document as JsonObject)) return wrong(check, 'what is published is no JSON object', passAll)
  const object = document as JsonObject
  if (object.server_name !== name) {
    return wrong(
      check,
      `they are those of ${String(object.server_name).slice(0, 255)}: the server there has another name`,
      own
        ? `have ${name} lead to the server whose server_name it is`
        : `use that server's own name, or correct where ${name} leads`,
    )
  }
  const keys = checkedKeyDocument(object, { server_name: name, now: clock.now() })
  if (!keys)
    return wrong(
      check,
      'no signature by a key that is published holds',
      'see that nothing between changes the answer; a server signs it itself',
    )
  const left = keys.valid_until_ts - clock.now()
  if (left <= 0) {
    return wrong(
      check,
      `valid until ${new Date(keys.valid_until_ts).toISOString()}, which is over`,
      'see that nothing between caches the answer, and that the clocks are right',
    )
  }
  const signs = own?.signingKeys?.[0]
  if (
    signs &&
    !keys.keys.some(({ key_id, public_key }) => key_id === signs.keyId && public_key === signs.publicKeyBase64)
  ) {
    return wrong(
      check,
      `${signs.keyId}, by which this server signs, is not among them`,
      'start all processes with the same signing key file; a process with another one answers there',
    )
  }
  const found = `${keys.keys.length} of ${name}, signed, valid for ${(left / hourMs).toFixed(1)} hours`
  return left < hourMs / 4 ? note(check, found, 'see that nothing between caches the answer') : ok(check, found)
}

/** Others sign the path as they send it: a proxy that decodes and encodes it again breaks their signatures, and `%2F` in an id
 *  that it decodes is another path. */
export async function checkPaths(askIt: Ask, { name, own }: Patient): Promise<Finding> {
  const check = 'paths through the proxy'
  const keep =
    'have the proxy pass the path on as it came: in nginx `proxy_pass http://…:8008;` without a path or slash behind the port, in Apache `AllowEncodedSlashes NoDecode` and `nocanon`'
  const key = own?.signingKeys?.[0]
  if (!key) {
    const answer = await askIt('/_matrix/key/v2/server/ed25519%3Aa%2Fb')
    if ('failure' in answer) return wrong(check, answer.failure, passAll)
    return answer.status === 200
      ? ok(check, '%2F comes through; whether all else does, only a request that the server itself signs can tell')
      : note(check, `a path with %2F is answered with ${answer.status}`, keep)
  }
  const uri = `/_matrix/federation/v1/query/a%2Fb%25c%20d?of=${encodeURIComponent(`@a/b%c:${name}`)}`
  const text = signedRequestText({ method: 'GET', uri, origin: name, destination: name, content: undefined })
  const authorization = formatXMatrix({ origin: name, destination: name, key: key.keyId, sig: signText(text, key) })
  const answer = await askIt(uri, { authorization })
  if ('failure' in answer) return wrong(check, answer.failure, passAll)
  const { error } = v.parse(
    v.object({ error: v.optional(v.string(), '') }),
    isJsonObject(answer.json as JsonObject) ? answer.json : {},
  )
  // The server refuses itself, and does so when it has checked that the signature fits what came.
  if (answer.status === 401 && error === asksItself)
    return ok(check, 'they come as they were sent: %2F, %25 and the query survive')
  if (answer.status === 404) return wrong(check, '%2F is decoded on the way: the path is not found', keep)
  if (answer.status === 401 && /not signed/.test(error)) {
    return wrong(
      check,
      'the Authorization header does not come through',
      'have the proxy pass the Authorization header on',
    )
  }
  if (answer.status === 401) return wrong(check, `what comes is not what was signed: ${error}`, keep)
  return wrong(check, `a signed request is answered with ${answer.status} ${error}`.trim(), passAll)
}

/** https://spec.matrix.org/v1.19/client-server-api/#getwell-knownmatrixclient */
export async function checkClientDocument({ name, own }: Patient, { egress }: Instruments): Promise<Finding> {
  const check = '.well-known/matrix/client'
  const url = `https://${name}/.well-known/matrix/client`
  const wanted = own?.config.public_baseurl
  const serve = `serve {"m.homeserver": {"base_url": "${wanted ?? 'https://…'}"}} at ${url}`
  const fix = own
    ? `set public_baseurl, and have whatever serves https://${name} pass /.well-known/matrix/client on to Ganglion`
    : serve
  const answer = await ask(egress, { url, redirects: 5, headers: { accept: 'application/json' } })
  if ('failure' in answer) return note(check, `no answer: clients ask people for an address (${answer.failure})`, fix)
  if (answer.status !== 200) return note(check, `status ${answer.status}: clients ask people for an address`, fix)
  const parsed = v.safeParse(clientDocument, answer.json)
  if (!parsed.success)
    return wrong(check, 'what is there is no JSON object with a URL under m.homeserver.base_url', serve)
  const { base_url } = parsed.output['m.homeserver']
  if (answer.headers.get('access-control-allow-origin') !== '*') {
    return wrong(check, 'clients in browsers may not read it', 'send Access-Control-Allow-Origin: * with it')
  }
  const without = (text: string) => text.replace(/\/+$/, '')
  if (wanted !== undefined && without(wanted) !== without(base_url)) {
    return wrong(check, `sends clients to ${base_url}, and public_baseurl is ${wanted}`, serve)
  }
  const versions = await ask(egress, { url: `${without(base_url)}/_matrix/client/versions`, downgrade: true })
  if ('failure' in versions || versions.status !== 200) {
    const found = 'failure' in versions ? versions.failure : `status ${versions.status}`
    return wrong(
      check,
      `sends clients to ${base_url}, where /_matrix/client/versions does not answer: ${found}`,
      passAll,
    )
  }
  return ok(check, `sends clients to ${base_url}, which answers`)
}

function unanswered(check: string, answer: Awaited<ReturnType<Ask>>, fix: string): Finding | undefined {
  if ('failure' in answer) return wrong(check, answer.failure, fix)
  return answer.status === 200 ? undefined : wrong(check, `status ${answer.status}`, fix)
}

export function notAsked(): Finding[] {
  return ['/_matrix/federation/v1/version', 'keys', 'paths through the proxy'].map((check) =>
    skipped(check, 'nobody can be asked without a connection'),
  )
}
