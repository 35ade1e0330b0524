/** A pool of connections that outlives them. What a lost connection leaves behind in postgres.js can poison the one made
 *  in its place: half a message in its buffer, or an error for the next query. So after a loss, new queries go to a fresh
 *  client, and the old one is dropped when its last query is answered. A query without an answer for `answerMs` fails:
 *  a server that is frozen, or behind a broken network, must not hold requests for ever. */
import type postgres from 'postgres'

export interface PoolOptions<T extends Record<string, unknown>> {
  /** A new client; it calls `lost` whenever one of its connections closes. */
  readonly make: (lost: () => void) => postgres.Sql<T>
  readonly answerMs: number
}

/** What the driver forgets is what was asked of a connection between its error and its close. A loss leaves other queries
 *  this long to be answered. */
const answerAfterLossMs = 5_000

/** For queries under way at the end. Without a bound, the driver waits for ever for a connection that was refused just then. */
const endTimeoutS = 3

/** What postgres.js's queries carry beside their promise. */
interface DriverQuery {
  handler: (query: DriverQuery) => unknown
  resolve: (rows: unknown) => void
  reject: (error: unknown) => void
}

interface Client<T extends Record<string, unknown>> {
  readonly sql: postgres.Sql<T>
  /** Sent and not answered, oldest first, with the time when they were sent. */
  readonly pending: Map<DriverQuery, number>
  retired: boolean
}

export class QueryTimeoutError extends Error {
  readonly code = 'CONNECTION_ANSWER_TIMEOUT'
  constructor(answerMs: number) {
    super(`the database gave no answer within ${answerMs} ms`)
    this.name = 'QueryTimeoutError'
  }
}

/** Templates, fragments, `unsafe`, `array`, `options` and `end`: what is used of postgres.js. `begin` and `reserve` are not
 *  there: in 3.4.9, a connection that is lost inside of them leaves promises open or brings the process down. */
export function outlivingPool<T extends Record<string, unknown>>({ make, answerMs }: PoolOptions<T>): postgres.Sql<T> {
  let ending = false
  let current = open()
  const retired = new Set<Client<T>>()

  function open(): Client<T> {
    const client: Client<T> = {
      sql: make(() => retire(client)),
      pending: new Map(),
      retired: false,
    }
    return client
  }

  function retire(client: Client<T>): void {
    if (client.retired || ending) return
    client.retired = true
    if (client === current) current = open()
    retired.add(client)
    // The driver is still at work on the loss.
    setImmediate(dropIfDone, client)
    setTimeout(giveUp, answerAfterLossMs, client).unref()
  }

  function giveUp(client: Client<T>): void {
    for (const query of [...client.pending.keys()]) query.reject(new QueryTimeoutError(answerAfterLossMs))
  }

  function dropIfDone(client: Client<T>): void {
    if (client.pending.size === 0 && retired.delete(client)) drop(client)
  }

  function drop(client: Client<T>): void {
    void client.sql.end({ timeout: 0 })
  }

  function send(client: Client<T>, query: DriverQuery, handler: DriverQuery['handler']): void {
    const { resolve, reject } = query
    const { pending } = client
    const answered = () => {
      pending.delete(query)
      if (client.retired && pending.size === 0) setImmediate(dropIfDone, client)
    }
    query.resolve = (rows) => {
      answered()
      resolve(rows)
    }
    query.reject = (error) => {
      answered()
      reject(error)
    }
    pending.set(query, performance.now())
    watch()
    handler(query)
  }

  let watching: NodeJS.Timeout | undefined
  function watch(): void {
    watching ??= setTimeout(look, answerMs / 4).unref()
  }
  function look(): void {
    watching = undefined
    const overdue = performance.now() - answerMs
    for (const client of [current, ...retired]) {
      let late = false
      for (const [query, sentAt] of client.pending) {
        if (sentAt > overdue) break
        late = true
        query.reject(new QueryTimeoutError(answerMs))
      }
      if (late) {
        retire(client)
        dropIfDone(client)
      }
      if (client.pending.size > 0) watch()
    }
  }

  function watched<Q>(query: Q): Q {
    // Helpers and fragments are no queries, and a fragment is never sent by itself.
    if (query instanceof Promise) {
      const driven = query as unknown as DriverQuery
      const client = current
      const { handler } = driven
      driven.handler = (sent) => send(client, sent, handler)
    }
    return query
  }

  const call = (first: never, ...rest: never[]) =>
    watched((current.sql as (...args: never[]) => unknown)(first, ...rest))
  return Object.assign(call, {
    unsafe: (...args: Parameters<postgres.Sql<T>['unsafe']>) => watched(current.sql.unsafe(...args)),
    array: current.sql.array,
    options: current.sql.options,
    async end(options?: { timeout?: number }) {
      ending = true
      clearTimeout(watching)
      await Promise.all([current, ...retired].map((client) => client.sql.end({ timeout: endTimeoutS, ...options })))
    },
  }) as unknown as postgres.Sql<T>
}
