/** Keeps one connection to one Redis server up. Each life of it is a client of its own, so nothing that was sent on one is
 *  ever sent again on the next. */
import { createClient } from '@redis/client'
import { RedisAwayError, reasonOf } from './errors.ts'
import type { Address } from './url.ts'

/** One server, and how to come in. */
export interface NodeTarget {
  readonly at: Address | { readonly path: string }
  readonly username?: string | undefined
  readonly password?: string | undefined
  readonly database: number
  /** Certificates (PEM) that vouch for the server beside Node's own. */
  readonly tls?: { readonly ca?: string | undefined } | undefined
  /** Sentinel may name a server that was demoted a moment ago: then it is refused. */
  readonly mustBeMaster?: boolean | undefined
}

export interface SessionOptions {
  /** Asked before each attempt: Sentinel's answer changes. */
  readonly target: () => NodeTarget | Promise<NodeTarget>
  readonly log: { warn(fields: Record<string, unknown>, message: string): void }
  /** What the connection is for, in logs and in CLIENT LIST. */
  readonly name: string
  /** The connection answers. Everything known of an earlier one is gone. */
  onUp?(client: NodeClient): void
  onDown?(): void
}

export type NodeClient = ReturnType<typeof newClient>

/** An attempt, its handshake included. */
const connectTimeoutMs = 1_500
const firstRetryMs = 20
const longestRetryMs = 500

export interface Session {
  /** The client while the connection is up. Connects when it is asked for the first time. */
  ready(): NodeClient | Promise<NodeClient>
  /** Gives up this connection and makes another at once: it is dead, or leads to the wrong server. */
  drop(client: NodeClient, reason: string): void
  readonly isUp: boolean
  close(): void
}

export function openSession(options: SessionOptions): Session {
  let client: NodeClient | undefined
  let closed = false
  let running = false
  /** Set while an attempt is under way that callers may wait for: the first, and the first after a loss. Later ones of the
   *  same outage are waited for by nobody. */
  let attempt: Promise<NodeClient> | undefined
  let away = 'it was never reached'
  let lastWarned = ''
  let wake: (() => void) | undefined

  async function connectOnce(): Promise<NodeClient> {
    const target = await options.target()
    if (closed) throw new RedisAwayError('the connection is closed', false)
    const made = newClient(target, options.name)
    // The library reports here what also rejects its promises, and losses; both are handled where they matter.
    made.on('error', (error: unknown) => lose(made, reasonOf(error)))
    const timer = setTimeout(() => made.destroy(), connectTimeoutMs)
    try {
      await made.connect()
      await made.sendCommand(['PING'])
      if (target.mustBeMaster) await assertMaster(made)
    } catch (error) {
      made.destroy()
      throw error
    } finally {
      clearTimeout(timer)
    }
    if (closed) {
      made.destroy()
      throw new RedisAwayError('the connection is closed', false)
    }
    return made
  }

  function lose(lost: NodeClient, reason: string): void {
    if (client !== lost) return
    client = undefined
    away = reason
    lost.destroy()
    warn(reason)
    options.onDown?.()
    keepConnecting()
  }

  function keepConnecting(): void {
    if (running || closed || client) return
    running = true
    attempt = connectOnce()
    void connectUntilUp(attempt).finally(() => {
      running = false
      // Lost again between coming up and here.
      if (!client) keepConnecting()
    })
  }

  async function connectUntilUp(first: Promise<NodeClient>): Promise<void> {
    let current = first
    for (let retryMs = firstRetryMs; !closed; retryMs = Math.min(retryMs * 2, longestRetryMs)) {
      try {
        client = await current
        attempt = undefined
        if (lastWarned !== '') options.log.warn({ connection: options.name }, 'Redis answers again')
        lastWarned = ''
        options.onUp?.(client)
        return
      } catch (error) {
        attempt = undefined
        away = error instanceof RedisAwayError ? error.message.replace(/^Redis is away: /, '') : reasonOf(error)
        warn(away)
      }
      await new Promise<void>((resolve) => {
        wake = resolve
        // Some jitter: many handlers lose one Redis at the same moment.
        setTimeout(resolve, retryMs * (0.5 + Math.random() / 2)).unref()
      })
      if (!closed) current = connectOnce()
    }
  }

  function warn(reason: string): void {
    // Once an outage and reason: an attempt each half second says nothing new.
    if (closed || reason === lastWarned) return
    lastWarned = reason
    options.log.warn({ connection: options.name, reason }, 'Redis is away')
  }

  return {
    ready() {
      if (client) return client
      if (closed) return Promise.reject(new RedisAwayError('the connection is closed', false))
      keepConnecting()
      return (
        attempt?.catch((error: unknown) => {
          throw error instanceof RedisAwayError ? error : new RedisAwayError(reasonOf(error), false)
        }) ?? Promise.reject(new RedisAwayError(away, false))
      )
    },
    drop: (dropped, reason) => lose(dropped, reason),
    get isUp() {
      return client !== undefined
    },
    close() {
      closed = true
      wake?.()
      const last = client
      client = undefined
      last?.destroy()
    },
  }
}

function newClient(target: NodeTarget, name: string) {
  const { at } = target
  const common = { connectTimeout: connectTimeoutMs, reconnectStrategy: false as const }
  return createClient({
    // RESP2 has what the REST interface has: strings, integers, nulls and arrays.
    RESP: 2,
    socket:
      'path' in at
        ? { ...common, path: at.path, tls: false }
        : target.tls
          ? {
              ...common,
              host: at.host,
              port: at.port,
              tls: true,
              ...(target.tls.ca === undefined ? {} : { ca: target.tls.ca }),
            }
          : { ...common, host: at.host, port: at.port, tls: false },
    ...(target.username === undefined ? {} : { username: target.username }),
    ...(target.password === undefined ? {} : { password: target.password }),
    database: target.database,
    name: `ganglion-${name}`,
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    // One deadline watches all commands of a connection: a timer a command would cost more than most commands.
    commandOptions: { timeout: 0 },
  })
}

async function assertMaster(client: NodeClient): Promise<void> {
  const role: unknown = await client.sendCommand(['ROLE'])
  if (!Array.isArray(role) || role[0] !== 'master') throw new RedisAwayError('no server is the master yet', false)
}
