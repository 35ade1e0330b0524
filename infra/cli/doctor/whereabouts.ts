/** Where a name leads, step by step as other servers go. https://spec.matrix.org/v1.19/server-server-api/#resolving-server-names */
import { isIP } from 'node:net'
import * as v from 'valibot'
import { EgressError } from '../../../shared/egress/egress-error.ts'
import type { SrvRecord } from '../../../shared/federation/srv.ts'
import { ServerName, serverNameParts } from '../../../shared/matrix/ids.ts'
import { ask } from './ask.ts'
import { type Finding, note, ok, skipped, wrong } from './finding.ts'
import type { Instruments, Patient } from './patient.ts'

export interface Place {
  /** The name that the certificate is for and that the Host header has; with a port where the name has one. */
  readonly host: string
  readonly connectTo: { readonly host: string; readonly port: number }
  /** Of `connectTo.host`. */
  readonly addresses: readonly string[]
}

const defaultPort = 8448
const wellKnownDocument = v.object({ 'm.server': ServerName })

/** Where requests go, all of them, in no order of preference. */
export async function findWhereabouts(
  patient: Patient,
  instruments: Instruments,
): Promise<{ readonly findings: Finding[]; readonly places: Place[] }> {
  const findings: Finding[] = []
  const delegated = direct(patient.name) ? undefined : await delegation(patient, instruments, findings)
  if (direct(patient.name)) {
    const what = isIP(bare(serverNameParts(patient.name).hostname)) === 0 ? 'a port' : 'an address'
    findings.push(skipped('.well-known/matrix/server', `the name has ${what}, so nobody asks for it`))
  }
  const name = delegated ?? patient.name
  const named = direct(name)
  const wanted = named ? [named] : await byRecords(name, instruments, findings)
  const places: Place[] = []
  for (const { host, connectTo } of wanted) {
    places.push({ host, connectTo, addresses: await addressesOf(connectTo, instruments, findings) })
  }
  return { findings, places }
}

/** What a name says by itself: an address, or a port. */
function direct(name: ServerName): Omit<Place, 'addresses'> | undefined {
  const { hostname, port } = serverNameParts(name)
  if (isIP(bare(hostname)) === 0 && port === undefined) return undefined
  return { host: name, connectTo: { host: bare(hostname), port: port ?? defaultPort } }
}

function bare(hostname: string): string {
  return hostname.replace(/^\[|\]$/g, '')
}

async function delegation(
  { name, own }: Patient,
  { egress }: Instruments,
  findings: Finding[],
): Promise<ServerName | undefined> {
  const check = '.well-known/matrix/server'
  const url = `https://${name}/.well-known/matrix/server`
  const wanted = own?.config.federation.delegate_to
  const passOn = `have whatever serves https://${name} pass /.well-known/matrix/server on to Ganglion`
  const answer = await ask(egress, { url, redirects: 5, headers: { accept: 'application/json' } })
  if ('failure' in answer || answer.status !== 200) {
    const found = 'failure' in answer ? `no answer: ${answer.failure}` : `status ${answer.status}`
    findings.push(
      wanted === undefined
        ? ok(check, `none (${found}): SRV records, then port ${defaultPort} of ${name} count`)
        : wrong(
            check,
            `${found}, although federation.delegate_to is ${wanted}`,
            `${passOn}, or serve {"m.server": "${wanted}"} there`,
          ),
    )
    return undefined
  }
  const parsed = v.safeParse(wellKnownDocument, answer.json)
  if (!parsed.success) {
    const should = wanted ?? `${name}:443`
    findings.push(
      wrong(
        check,
        'what is there is no JSON object with a server name under m.server, and counts for nothing',
        `serve {"m.server": "${should}"} there, or answer 404`,
      ),
    )
    return undefined
  }
  const found = parsed.output['m.server']
  if (own && wanted !== found) {
    const configured =
      wanted === undefined ? 'federation.delegate_to is not set' : `federation.delegate_to is ${wanted}`
    findings.push(
      note(check, `leads to ${found}, and ${configured}`, `set federation.delegate_to to ${found}, or ${passOn}`),
    )
  } else {
    findings.push(ok(check, `leads to ${found}`))
  }
  return found
}

async function byRecords(
  name: ServerName,
  { srv }: Instruments,
  findings: Finding[],
): Promise<Omit<Place, 'addresses'>[]> {
  for (const service of ['_matrix-fed', '_matrix']) {
    const record = `${service}._tcp.${name}`
    const check = `SRV ${record}`
    let found: readonly SrvRecord[]
    try {
      found = await srv(record)
    } catch (error) {
      findings.push(
        wrong(
          check,
          `the name servers do not say: ${String((error as NodeJS.ErrnoException).code ?? error)}`,
          `look at the name servers of ${name}: they have to say that there is no record, if there is none`,
        ),
      )
      continue
    }
    const usable = found.filter(({ name: host }) => host !== '' && host !== '.')
    if (usable.length === 0) {
      findings.push(ok(check, 'none'))
      continue
    }
    const list = usable.map((one) => `${one.name}:${one.port}`).join(', ')
    findings.push(
      service === '_matrix'
        ? note(check, `${list}, by the old name of the service`, `publish the same under _matrix-fed._tcp.${name}`)
        : ok(check, list),
    )
    return usable.map((one) => ({ host: name, connectTo: { host: one.name, port: one.port } }))
  }
  return [{ host: name, connectTo: { host: name, port: defaultPort } }]
}

async function addressesOf(
  connectTo: Place['connectTo'],
  { resolve, rules }: Instruments,
  findings: Finding[],
): Promise<readonly string[]> {
  const { host } = connectTo
  const check = `addresses of ${host}`
  const publish = `publish an A or AAAA record for ${host}`
  let addresses: readonly string[]
  try {
    addresses = isIP(host) === 0 ? (await resolve({ hostname: host, port: connectTo.port })).addresses : [host]
  } catch (error) {
    const code = error instanceof EgressError ? error.message : (error as NodeJS.ErrnoException).code
    findings.push(wrong(check, `none is found: ${code ?? String(error)}`, publish))
    return []
  }
  const list = addresses.join(', ')
  if (addresses.length === 0) findings.push(wrong(check, 'there is none', publish))
  else if (!addresses.some((address) => rules.allows(address))) {
    findings.push(
      wrong(
        check,
        `${list}: private or special, which other servers do not connect to`,
        `${publish} with a public address; inside of a network of your own, other servers need it in their egress.allowed_ranges`,
      ),
    )
  } else if (!addresses.every((address) => rules.allows(address))) {
    findings.push(
      note(
        check,
        `${list}: some are private or special, which other servers do not connect to`,
        'take those records out',
      ),
    )
  } else findings.push(ok(check, list))
  return addresses
}
