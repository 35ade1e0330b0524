/** One line a request, when its answer is out or its client gone. The query is left out: it may hold a token. */
import { randomBytes } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Logger } from '../logging.ts'
import type { Fetch } from './listeners.ts'
import type { ClientAddress } from './request-info.ts'

export interface AccessLogDeps {
  readonly log: Logger
  readonly clientAddress: ClientAddress
}

/** Probes come every few seconds and say nothing. */
const unlogged = new Set(['/health', '/live', '/ready'])

export function withAccessLog(fetch: Fetch, { log, clientAddress }: AccessLogDeps): Fetch {
  if (!log.isLevelEnabled('info')) return fetch
  // Unique across restarts, cheap to make: what this process is called, and a count.
  const processName = randomBytes(4).toString('hex')
  let count = 0
  return (request, env) => {
    const incoming = env.incoming as IncomingMessage
    const outgoing = env.outgoing as ServerResponse
    const path = pathOf(incoming.url ?? '')
    if (unlogged.has(path)) return fetch(request, env)
    const startedAt = performance.now()
    const request_id = `${processName}-${(++count).toString(36)}`
    // For the log of errors, so that its lines can be found.
    ;(env as { request_id?: string }).request_id = request_id
    outgoing.once('close', () => {
      const user = (env as { user_id?: string }).user_id
      const agent = incoming.headers['user-agent']
      log.info(
        {
          method: incoming.method,
          path,
          status: outgoing.statusCode,
          ms: Math.round((performance.now() - startedAt) * 10) / 10,
          ip: clientAddress(incoming, one(incoming.headers['x-forwarded-for'])),
          ...(user === undefined ? {} : { user }),
          ...(outgoing.writableFinished ? {} : { client_left: true }),
          ...(agent === undefined ? {} : { agent }),
          request_id,
        },
        'request',
      )
    })
    return fetch(request, env)
  }
}

function pathOf(url: string): string {
  const query = url.indexOf('?')
  return query < 0 ? url : url.slice(0, query)
}

function one(header: string | string[] | undefined): string | null {
  return header === undefined ? null : Array.isArray(header) ? header.join(',') : header
}
