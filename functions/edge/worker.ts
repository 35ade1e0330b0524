/** The edge as a Worker: the same decisions as on Node, carried out by `fetch`. wrangler.toml says where it finds handlers:
 *  URLs in variables, or containers that it starts itself. */
import type { Role } from '../../shared/http/route.ts'
import { roles } from '../../shared/http/route-table.ts'
import { brokenOff, type EdgeAnswer, noHandler, tooLarge } from './answers.ts'
import { type ContainerNamespace, containerNames, fetchFromContainer } from './containers.ts'
import { type Decision, decide } from './decide.ts'
import { answerHeaderGoesOn, forwardedHeaders, requestHeaderGoesOn } from './forwarded-headers.ts'
import { isRepeatable } from './repeatable.ts'
import { Upstreams } from './upstreams.ts'

export { ClientContainer, FederationContainer, MediaContainer, SyncContainer } from './containers.ts'

/** Per role either `<ROLE>_UPSTREAMS`, URLs parted by commas, or `<ROLE>_CONTAINERS` with how many of them there are. */
export interface EdgeEnvironment {
  readonly [name: string]: string | ContainerNamespace | undefined
}

/** Held until it is whole, and can then be sent again. */
const wholeBodyBytesMax = 64 * 1024
/** Of bodies whose length nobody said; a Worker has 128 MB for all that it does at once. */
const unknownLengthBytesMax = 16 * 1024 * 1024
const attemptsMax = 3
const defaultLimits = { sync: 2 ** 20, client: 12 * 2 ** 20, federation: 12 * 2 ** 20, media: 100 * 2 ** 20 }

interface RoleBehind {
  readonly upstreams: Upstreams
  readonly fetch: (upstream: string, target: string, init: RequestInit) => Promise<Response>
}

/** Of this isolate; the variables of a deployment do not change. */
const behind = new WeakMap<EdgeEnvironment, Record<Role, RoleBehind>>()

async function answer(request: Request, env: EdgeEnvironment): Promise<Response> {
  const { url, method, headers } = request
  const target = url.slice(url.indexOf('/', url.indexOf('://') + 3)) || '/'
  if (target === '/health' || target === '/live') return new Response('OK')
  const length = headers.get('content-length')
  const decision: Decision = decide(
    {
      method,
      target,
      authorization: headers.get('authorization') ?? undefined,
      contentLength: length === null ? undefined : Number(length),
    },
    limitsOf(env),
  )
  if (decision.answer) return ownAnswer(decision.answer)
  const { role, stickyKey, bodyBytesMax } = decision.forward
  const { upstreams, fetch } = rolesBehind(env)[role]

  const body = await sendableBody(request, length, bodyBytesMax)
  if (body === 'too large') return ownAnswer(tooLarge)
  const sentHeaders = requestHeaders(request)
  const tried: (typeof upstreams.all)[number][] = []
  for (;;) {
    const upstream = upstreams.pick(stickyKey, tried)
    if (!upstream) return ownAnswer(tried.length === 0 ? noHandler : brokenOff)
    tried.push(upstream)
    upstream.load++
    try {
      const got = await fetch(upstream.url, target, {
        method,
        headers: sentHeaders,
        body,
        // The client follows redirects itself: those of a login lead elsewhere.
        redirect: 'manual',
        signal: request.signal,
      })
      upstreams.succeeded(upstream)
      return relayed(got)
    } catch (error) {
      if (request.signal.aborted) throw error
      upstreams.failed(upstream)
      // A failed fetch does not tell whether the handler had the request.
      const again = tried.length < attemptsMax && !(body instanceof ReadableStream)
      if (!again || !isRepeatable(method, target)) return ownAnswer(brokenOff)
    } finally {
      upstream.load--
    }
  }
}

function requestHeaders(request: Request): Headers {
  const { headers } = request
  const connection = headers.get('connection') ?? undefined
  const sent = new Headers()
  for (const [name, value] of headers) {
    // What Cloudflare tells the Worker is not for handlers.
    if (name.startsWith('cf-')) continue
    if (requestHeaderGoesOn(name, connection, { trusted: false })) sent.append(name, value)
  }
  const { protocol, host } = new URL(request.url)
  const facts = forwardedHeaders({
    // Written by Cloudflare's network, over whatever the client sent.
    address: headers.get('cf-connecting-ip') ?? '0.0.0.0',
    proto: protocol === 'https:' ? 'https' : 'http',
    host,
    requestId: crypto.randomUUID(),
    trusted: false,
  })
  for (let i = 0; i < facts.length; i += 2) sent.set(facts[i] ?? '', facts[i + 1] ?? '')
  return sent
}

function relayed(got: Response): Response {
  const connection = got.headers.get('connection') ?? undefined
  // With the answer itself as a pattern its body goes through as it is, compressed or not.
  const answered = new Response(got.body, got)
  for (const name of [...got.headers.keys()]) {
    if (!answerHeaderGoesOn(name, connection)) answered.headers.delete(name)
  }
  return answered
}

/** What can be sent on: a large body as it comes, a small one whole. One without a length is waited for too: if it were cut
 *  off on its way, a handler would take the part for the whole. */
async function sendableBody(
  { body }: Request,
  length: string | null,
  bytesMax: number,
): Promise<ReadableStream | Uint8Array<ArrayBuffer> | null | 'too large'> {
  if (body === null) return null
  if (length !== null && Number(length) > wholeBodyBytesMax) return body
  const chunks: Uint8Array[] = []
  let bytes = 0
  for await (const chunk of body as unknown as AsyncIterable<Uint8Array>) {
    bytes += chunk.byteLength
    if (bytes > Math.min(bytesMax, unknownLengthBytesMax)) return 'too large'
    chunks.push(chunk)
  }
  const whole = new Uint8Array(bytes)
  let at = 0
  for (const chunk of chunks) {
    whole.set(chunk, at)
    at += chunk.byteLength
  }
  return whole
}

function ownAnswer({ status, headers, body }: EdgeAnswer): Response {
  return new Response(body ?? null, { status, headers })
}

function rolesBehind(env: EdgeEnvironment): Record<Role, RoleBehind> {
  const known = behind.get(env)
  if (known) return known
  const made = Object.fromEntries(roles.map((role) => [role, roleBehind(role, env)])) as Record<Role, RoleBehind>
  behind.set(env, made)
  return made
}

function roleBehind(role: Role, env: EdgeEnvironment): RoleBehind {
  const name = role.toUpperCase()
  const containers = env[`${name}_CONTAINERS`]
  if (typeof containers === 'object') {
    const count = Number(env[`${name}_INSTANCES`] ?? 1)
    return {
      upstreams: new Upstreams({ urls: containerNames(role, count) }),
      fetch: (instance, target, init) => fetchFromContainer(containers, instance, target, init),
    }
  }
  const urls = env[`${name}_UPSTREAMS`]
  return {
    upstreams: new Upstreams({
      urls:
        typeof urls === 'string'
          ? urls
              .split(',')
              .map((url) => url.trim())
              .filter(Boolean)
          : [],
    }),
    fetch: (url, target, init) => fetch(`${url}${target}`, init),
  }
}

function limitsOf(env: EdgeEnvironment): typeof defaultLimits {
  const limit = (role: Role) => Number(env[`${role.toUpperCase()}_BODY_BYTES`] ?? defaultLimits[role])
  return { sync: limit('sync'), client: limit('client'), federation: limit('federation'), media: limit('media') }
}

// biome-ignore lint/style/noDefaultExport: a Worker's entry is its default export
export default { fetch: answer }
