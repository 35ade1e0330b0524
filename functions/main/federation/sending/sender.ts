/** Sends to other servers: to each one transaction at a time, to many at once. What waits for a server that does not answer
 *  waits in the tables, costs nobody else anything, and is tried again less and less often until the server gives a sign of life.
 *  https://spec.matrix.org/v1.19/server-server-api/#transactions */
import { setImmediate as turn } from 'node:timers/promises'
import type { Clock } from '../../../../shared/clock.ts'
import { type FederationClient, RemoteError } from '../../../../shared/federation/federation-client.ts'
import type { Logger } from '../../../../shared/logging.ts'
import type { ServerName } from '../../../../shared/matrix/ids.ts'
import { liveNumber } from '../../../../shared/metrics/tallies.ts'
import { backOffMs } from './back-off.ts'
import { Destination, type PassingEdu } from './destination.ts'
import type { DestinationsTable, DueEvent } from './destinations-table.ts'
import { createOutcomes } from './outcomes.ts'
import { createPrepare, type Ready } from './prepare.ts'

export interface SenderDeps {
  readonly table: DestinationsTable
  readonly clock: Clock
  readonly client: Pick<FederationClient, 'json'>
  readonly origin: ServerName
  /** Requests of this process to the outside, at a time. */
  readonly connections: number
  /** Whether the server is this process's to send to. */
  readonly isMine: (server: ServerName) => boolean
  readonly log: Pick<Logger, 'error'> & Partial<Pick<Logger, 'info'>>
  readonly random: () => number
}

export interface Sender {
  addEvent(server: ServerName, event: DueEvent): void
  pass(server: ServerName, key: string, edu: PassingEdu): void
  /** Its row has changed: something waits for it, or it gave a sign of life. */
  look(server: ServerName): void
  /** Events up to here may wait for it. */
  mayMiss(server: ServerName, upTo: number): void
  /** Forgets what is not this process's any more. */
  forgetOthers(): void
  /** Those that something waits for or is under way to. */
  busy(): ServerName[]
  /** The idle ones have everything up to here. */
  tidied(upTo: number): void
  /** Begins nothing more; what was begun is in the tables. */
  close(): Promise<void>
}

/** Prepared together: it bounds what is in memory. */
const batchMax = 200
/** Destinations that are remembered although nothing waits for them. */
const idleMax = 20_000
const databaseRetryMs = 1_000
/** A body that a server will not take, after so many times, is not sent again. */
const refusalsMax = 10
const limits = { totalMs: 120_000, firstByteMs: 90_000, bytesMax: 1024 * 1024 } as const

export function createSender(deps: SenderDeps): Sender {
  const { table, clock, client, isMine, log } = deps
  const destinations = new Map<ServerName, Destination>()
  const ready = new Set<Destination>()
  const unread = new Set<Destination>()
  const prepare = createPrepare({ table, clock, origin: deps.origin })
  const outcomes = createOutcomes(table, clock)
  const closing = new AbortController()
  const sending = new Set<Promise<void>>()
  const probesMax = Math.max(2, deps.connections >> 3)
  const healthyMax = Math.max(2, deps.connections >> 1)
  let probes = 0
  let healthy = 0
  let closed = false
  let pumping: Promise<void> | undefined
  let wanted = false
  let cancelRetry: (() => void) | undefined

  function of(server: ServerName): Destination {
    let destination = destinations.get(server)
    if (!destination) {
      destination = new Destination(server)
      destinations.set(server, destination)
      if (destinations.size > idleMax) forgetIdle()
    }
    return destination
  }
  function forgetIdle(): void {
    for (const [server, one] of destinations) {
      if (!one.busy && one.known && !one.hasWork) destinations.delete(server)
      if (destinations.size <= idleMax / 2) return
    }
  }

  /** To be called when something of it has changed. */
  function consider(destination: Destination): void {
    if (closed || destination.gone || destination.busy) return
    if (!destination.known) unread.add(destination)
    else if (destination.hasWork) {
      const waitMs = destination.retryTs - clock.now()
      destination.cancelTimer?.()
      destination.cancelTimer = undefined
      if (waitMs > 0) {
        ready.delete(destination)
        destination.cancelTimer = clock.after(waitMs, () => {
          destination.cancelTimer = undefined
          consider(destination)
        })
        return
      }
      ready.add(destination)
    } else return
    pump()
  }

  function pump(): void {
    wanted = true
    if (closed || pumping) return
    pumping = pumpOn()
      .catch((err: unknown) => {
        wanted = false
        if (closed) return
        log.error({ err }, 'what goes to other servers could not be read or written; it is tried again')
        cancelRetry ??= clock.after(databaseRetryMs, () => {
          cancelRetry = undefined
          pump()
        })
      })
      .finally(() => {
        pumping = undefined
        if (wanted) pump()
      })
  }

  async function pumpOn(): Promise<void> {
    // Those that become ready in one turn are prepared together.
    await turn()
    while (wanted && !closed) {
      wanted = false
      if (unread.size > 0) await readSome()
      const batch = takeBatch()
      if (batch.length > 0) await prepareAndSend(batch)
      if (batch.length === batchMax || unread.size > 0) wanted = true
    }
  }

  /** Those that may be sent to now. Servers that failed share a few places of their own. */
  function takeBatch(): Destination[] {
    const batch: Destination[] = []
    let [free, freeProbes] = [healthyMax - healthy, probesMax - probes]
    for (const destination of ready) {
      if (batch.length >= batchMax || (free <= 0 && freeProbes <= 0)) break
      if (destination.attempts > 0) {
        if (freeProbes-- <= 0) continue
      } else if (free-- <= 0) continue
      ready.delete(destination)
      destination.busy = true
      batch.push(destination)
    }
    return batch
  }

  async function readSome(): Promise<void> {
    const some = [...unread].slice(0, 1_000)
    for (const one of some) one.busy = true
    try {
      const rows = new Map((await table.rows(some.map((one) => one.server_name))).map((row) => [row.server_name, row]))
      for (const one of some) {
        unread.delete(one)
        const row = rows.get(one.server_name)
        if (row) one.read(row)
        // It was never sent to.
        else destinations.delete(one.server_name)
      }
    } finally {
      for (const one of some) {
        one.busy = false
        if (one.known) consider(one)
      }
    }
  }

  async function prepareAndSend(batch: readonly Destination[]): Promise<void> {
    let prepared: Awaited<ReturnType<typeof prepare>>
    try {
      prepared = await prepare(batch)
    } catch (error) {
      // What was taken out of what waits is in the tables.
      for (const one of batch) again(one, Math.max(one.cursor, ...one.events.map((event) => event.position)))
      throw error
    }
    for (const one of prepared.stale) again(one, one.gapUpTo ?? 0)
    const stale = new Set(prepared.stale)
    const sent = new Set(prepared.ready.map((one) => one.destination))
    for (const one of prepared.ready) begin(one)
    for (const one of batch) {
      if (sent.has(one) || stale.has(one)) continue
      // There was nothing after all, or its transaction is not what was known.
      one.busy = false
      if (one.transaction) one.known = false
      consider(one)
    }
  }

  /** What is known of it is read again. */
  function again(destination: Destination, upTo: number): void {
    destination.busy = false
    destination.known = false
    destination.mayMiss(Math.max(upTo, seen))
    consider(destination)
  }
  /** The furthest event that was told of. */
  let seen = 0

  function begin(one: Ready): void {
    const { destination } = one
    const isProbe = destination.attempts > 0
    if (isProbe) probes++
    else healthy++
    const work = send(one)
      .catch((err: unknown) => {
        if (closed) return
        log.error({ err }, 'what became of a transaction could not be written; it is sent again')
        destination.known = false
        destination.retryTs = clock.now() + databaseRetryMs
      })
      .finally(() => {
        if (isProbe) probes--
        else healthy--
        sending.delete(work)
        destination.busy = false
        consider(destination)
        if (ready.size > 0) pump()
      })
    sending.add(work)
  }

  async function send({ destination, transaction_id, body, stored }: Ready): Promise<void> {
    const { server_name } = destination
    try {
      await client.json(server_name, {
        method: 'PUT',
        uri: `/_matrix/federation/v1/send/${transaction_id}`,
        canonicalBody: body,
        signal: closing.signal,
        limits,
      })
    } catch (error) {
      if (closed) return
      if (!(error instanceof RemoteError)) throw error
      if (!(stored && isFinal(error) && destination.attempts >= refusalsMax)) {
        await failed(destination, error)
        return
      }
      log.error(
        { server_name, transaction_id, reason: error.message },
        'a server does not take a transaction: it is not sent again',
      )
    }
    const wasFailing = destination.attempts > 0
    if (stored) {
      await outcomes.write({ kind: 'delivered', server_name, transaction_id })
      if (destination.transaction) destination.cursor = Math.max(destination.cursor, destination.transaction.upto)
      destination.transaction = undefined
    } else if (wasFailing) await outcomes.write({ kind: 'answered', server_name })
    destination.attempts = 0
    destination.retryTs = 0
  }

  async function failed(destination: Destination, error: RemoteError): Promise<void> {
    const { server_name, transaction } = destination
    destination.attempts++
    destination.retryTs = clock.now() + backOffMs(destination.attempts, deps.random())
    if (transaction) transaction.body = undefined
    destination.forgetEvents()
    destination.passing.clear()
    if (destination.attempts === 1) log.info?.({ server_name, reason: error.message }, 'a server can not be sent to')
    const { attempts, retryTs: retry_ts } = destination
    await outcomes.write({ kind: 'failed', server_name, attempts, retry_ts, error: error.message.slice(0, 500) })
  }

  const waiting = () => [...destinations.values()].filter((one) => one.busy || one.hasWork)
  const forgetNumbers = [
    liveNumber('ganglion_destinations_waiting', 'Other servers that something waits for here', () => waiting().length),
    liveNumber('ganglion_destinations_sending', 'Transactions that are on their way from here', () => sending.size),
  ]

  return {
    addEvent(server, event) {
      seen = Math.max(seen, event.position)
      const destination = of(server)
      destination.addEvent(event)
      consider(destination)
    },
    pass(server, key, edu) {
      const destination = of(server)
      destination.pass(key, edu)
      consider(destination)
    },
    look(server) {
      const destination = of(server)
      // What is being sent looks again when it is done.
      destination.known = false
      ready.delete(destination)
      consider(destination)
    },
    mayMiss(server, upTo) {
      seen = Math.max(seen, upTo)
      const destination = of(server)
      destination.mayMiss(upTo)
      consider(destination)
    },
    forgetOthers() {
      for (const [server, destination] of destinations) {
        if (isMine(server)) continue
        destination.gone = true
        destination.cancelTimer?.()
        ready.delete(destination)
        unread.delete(destination)
        destinations.delete(server)
      }
    },
    busy: () => waiting().map((one) => one.server_name),
    tidied(upTo) {
      for (const one of destinations.values()) {
        if (one.known && !one.busy && !one.hasWork) one.cursor = Math.max(one.cursor, upTo)
      }
    },
    async close() {
      closed = true
      for (const forget of forgetNumbers) forget()
      cancelRetry?.()
      for (const one of destinations.values()) one.cancelTimer?.()
      closing.abort(new Error('this process ends'))
      await pumping
      await Promise.allSettled(sending)
    },
  }
}

/** The server took the request for what it was, and will not have it. */
function isFinal({ status }: RemoteError): boolean {
  return status === 400 || status === 413 || status === 422
}
