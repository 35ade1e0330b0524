/** Keeps one connection to one Redis server up. Each life of it is a client of its own, so nothing that was sent on one is
 *  ever sent again on the next. */
import { RedisAwayError, reasonOf } from './errors.ts'
import { NodeClient, type NodeTarget } from './node-client.ts'

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
    const made: NodeClient = new NodeClient(target, {
      name: `ganglion-${options.name}`,
      connectTimeoutMs,
      // Also called for what rejects `connect`: then there is nothing to lose yet.
      onError: (error) => lose(made, reasonOf(error)),
    })
    const timer = setTimeout(() => made.destroy(), connectTimeoutMs)
    try {
      await made.connect()
    } catch (error) {
      made.destroy()
      throw error
    } finally {
      clearTimeout(timer)
    }
    if (closed || !made.isReady) {
      made.destroy()
      throw new RedisAwayError(closed ? 'the connection is closed' : 'the connection broke off', false)
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
