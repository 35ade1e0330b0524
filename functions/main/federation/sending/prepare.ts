/** Makes the next transactions of many destinations together, and stores them before anything is sent. Whatever the number of
 *  destinations, it is one query of each kind; those with the same to send share one body. */
import { randomUUID } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../../shared/clock.ts'
import type { ServerName } from '../../../../shared/matrix/ids.ts'
import type { Destination } from './destination.ts'
import {
  type DestinationsTable,
  type DueEvent,
  edusMax,
  pdusMax,
  type StoredTransaction,
} from './destinations-table.ts'
import { canonicalEdu, canonicalPdu, transactionBody } from './transaction-body.ts'

/** What is sent again and again, as one room's event to its servers. */
const pduBytesMax = 8 * 1024 * 1024

export interface Ready {
  readonly destination: Destination
  readonly transaction_id: string
  readonly body: string
  /** It is in the tables, and comes again until it arrives. */
  readonly stored: boolean
}

interface Draft {
  readonly destination: Destination
  readonly key: string
  readonly nids: readonly number[]
  readonly edus: readonly string[]
  readonly upto: number
  readonly last_edu: number | undefined
  readonly stored: boolean
}

export interface Prepared {
  readonly ready: readonly Ready[]
  /** Their rows are not what was known here. */
  readonly stale: readonly Destination[]
}

export function createPrepare(deps: {
  readonly table: DestinationsTable
  readonly clock: Clock
  readonly origin: ServerName
}): (destinations: readonly Destination[]) => Promise<Prepared> {
  const { table, clock, origin } = deps
  const pdus = new LRUCache<number, string>({ maxSize: pduBytesMax, sizeCalculation: (text) => text.length + 100 })

  return async (destinations) => {
    const again = destinations.filter((one) => one.transaction !== undefined)
    const ready = await bodiesAgain(again)
    const drafts = await draftsOf(destinations.filter((one) => one.transaction === undefined))
    const made = await transactionsOf(drafts)
    return { ready: [...ready, ...made.ready], stale: made.stale }
  }

  async function bodiesAgain(destinations: readonly Destination[]): Promise<Ready[]> {
    const ids = destinations.flatMap(({ transaction }) =>
      transaction?.body === undefined ? [transaction?.id ?? ''] : [],
    )
    const found = ids.length === 0 ? [] : await table.bodies([...new Set(ids)])
    const bodies = new Map(found.map((one) => [one.transaction_id, one.body]))
    return destinations.flatMap((destination) => {
      const { transaction } = destination
      const body = transaction?.body ?? bodies.get(transaction?.id ?? '')
      if (!transaction || body === undefined) return []
      return [{ destination, transaction_id: transaction.id, body, stored: true }]
    })
  }

  async function draftsOf(destinations: readonly Destination[]): Promise<Draft[]> {
    const behind = destinations.flatMap(({ server_name, cursor, gapUpTo }) =>
      gapUpTo === undefined ? [] : [{ server_name, after: cursor, upTo: gapUpTo }],
    )
    const withEdus = destinations.filter((one) => one.hasEdus).map((one) => one.server_name)
    const [missed, edus] = await Promise.all([
      behind.length === 0 ? undefined : table.events(behind),
      withEdus.length === 0 ? undefined : table.edus(withEdus),
    ])
    const drafts: Draft[] = []
    for (const destination of destinations) {
      const { server_name } = destination
      const due = eventsOf(destination, missed?.get(server_name) ?? [])
      const lasting = edus?.get(server_name) ?? []
      // What comes later tells of itself again.
      if (destination.hasEdus && lasting.length < edusMax) destination.hasEdus = false
      const passing: [string, { id: number; text: string }][] = []
      for (const entry of destination.passing) {
        if (lasting.length + passing.length >= edusMax) break
        passing.push(entry)
      }
      for (const [name] of passing) destination.passing.delete(name)
      if (due.length + lasting.length + passing.length === 0) continue
      const nids = due.map((event) => event.event_nid)
      const ids = [...lasting.map((edu) => `d${edu.edu_id}`), ...passing.map(([, edu]) => edu.id)]
      drafts.push({
        destination,
        key: `${nids.join()}|${ids.join()}`,
        nids,
        edus: [
          ...lasting.flatMap((edu) => canonicalEdu(edu.edu_type, edu.content) ?? []),
          ...passing.map(([, edu]) => edu.text),
        ],
        upto: due.at(-1)?.position ?? destination.cursor,
        last_edu: lasting.at(-1)?.edu_id,
        stored: due.length + lasting.length > 0,
      })
    }
    return drafts
  }

  /** The next ones, taken out of what waits. */
  function eventsOf(destination: Destination, missed: readonly DueEvent[]): DueEvent[] {
    const due = [...missed]
    if (missed.length < pdusMax) {
      // The gap is closed: what follows it is in memory.
      destination.takenUpTo = Math.max(destination.takenUpTo, destination.gapUpTo ?? 0)
      destination.gapUpTo = undefined
      due.push(...destination.events.splice(0, pdusMax - due.length))
    }
    destination.takenUpTo = Math.max(destination.takenUpTo, due.at(-1)?.position ?? 0)
    return due
  }

  async function transactionsOf(drafts: readonly Draft[]): Promise<Prepared> {
    if (drafts.length === 0) return { ready: [], stale: [] }
    const texts = await textsOf(new Set(drafts.flatMap((draft) => draft.nids)))
    const now = clock.now()
    const made = new Map<string, { transaction_id: string; body: string; stored: boolean }>()
    for (const { key, nids, edus, stored } of drafts) {
      if (made.has(key)) continue
      const pdus = nids.flatMap((nid) => texts.get(nid) ?? [])
      const body = transactionBody({ origin, origin_server_ts: now, pdus, edus })
      made.set(key, { transaction_id: `${now}_${randomUUID().slice(0, 18)}`, body, stored })
    }
    const transactions: StoredTransaction[] = drafts.flatMap(({ destination, key, upto, last_edu, stored }) => {
      const one = made.get(key)
      if (!one || !stored) return []
      const { server_name, cursor } = destination
      return [{ server_name, transaction_id: one.transaction_id, cursor, upto, last_edu }]
    })
    const bodies = [...made.values()].filter((one) => one.stored)
    const begun = transactions.length === 0 ? new Set<ServerName>() : await table.begin(bodies, transactions, now)
    const ready: Ready[] = []
    const stale: Destination[] = []
    for (const { destination, key, upto, stored } of drafts) {
      const one = made.get(key)
      if (!one) continue
      const { transaction_id: id, body } = one
      if (!stored) ready.push({ destination, transaction_id: id, body, stored })
      else if (begun.has(destination.server_name)) {
        destination.transaction = { id, upto, body }
        ready.push({ destination, transaction_id: id, body, stored })
      } else stale.push(destination)
    }
    return { ready, stale }
  }

  async function textsOf(nids: ReadonlySet<number>): Promise<Map<number, string>> {
    const texts = new Map<number, string>()
    const unknown: number[] = []
    for (const nid of nids) {
      const text = pdus.get(nid)
      if (text === undefined) unknown.push(nid)
      else texts.set(nid, text)
    }
    if (unknown.length === 0) return texts
    for (const { event_nid, envelope, content } of await table.parts(unknown)) {
      const text = canonicalPdu(envelope, content)
      pdus.set(event_nid, text)
      texts.set(event_nid, text)
    }
    return texts
  }
}
