/** History that other servers have: fetched, checked, and placed before what is here.
 *  https://spec.matrix.org/v1.19/server-server-api/#backfilling-and-retrieving-missing-events */
import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId, ServerName } from '../../../shared/matrix/ids.ts'
import { backwardGaps, serversToAsk } from '../../../shared/storage/backward-gaps.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { RoomEngine } from '../rooms/engine.ts'
import type { Room } from '../rooms/room.ts'
import type { EventFetcher } from './fetch-events.ts'
import { haveState, storeOutliers } from './fill-gap.ts'
import { type KnownPrevious, knownPrevious, placeHistory } from './place-history.ts'

export interface BackfillDeps {
  readonly sql: MainSql
  readonly clock: Clock
  readonly engine: RoomEngine
  readonly fetcher: EventFetcher
}

type RoomInfo = Pick<Room, 'room_nid' | 'room_id' | 'rules'>

/** No server is asked any more after that. */
const askingMs = 15_000
/** Whoever asked in vain does not ask again before. */
const retryMs = 30_000
/** States that are asked for because of one answer: where its events have several beginnings. */
const statesMax = 5

export function backfillHandler(deps: BackfillDeps): MainClient['backfillRoom'] {
  const { sql, clock, engine } = deps
  const under_way = new Map<RoomId, Promise<{ placed: number }>>()

  async function backfill(room_id: RoomId, limit: number): Promise<{ placed: number }> {
    const room = await engine.tryRun(room_id, 'backfill', async (task): Promise<RoomInfo> => {
      const { room_nid, rules } = task.room
      return { room_nid, room_id, rules }
    })
    if (!room) return { placed: 0 }
    const now = clock.now()
    const gaps = await backwardGaps(sql, room.room_nid, now)
    if (gaps.length === 0) return { placed: 0 }
    for (const server of await serversToAsk(sql, room.room_nid, now)) {
      if (clock.now() - now > askingMs) break
      try {
        const placed = await fromServer(deps, room, server, { gaps, limit })
        if (placed > 0) return { placed }
      } catch (error) {
        // The next one may have it.
        if (!(error instanceof RemoteError)) throw error
      }
    }
    await engine.run(room_id, 'backfill', async (task) => {
      const retry_ts = clock.now() + retryMs
      task.write({
        also: (tx) => [
          tx`update backward_gaps set retry_ts = ${retry_ts}
            where room_nid = ${room.room_nid} and event_id = any(${tx.array(gaps, 25)}::text[])`,
        ],
      })
    })
    return { placed: 0 }
  }

  return ({ room_id, limit }) => {
    // Who asks meanwhile gets the same.
    const known = under_way.get(room_id)
    if (known) return known
    const work = backfill(room_id, limit).finally(() => under_way.delete(room_id))
    under_way.set(room_id, work)
    return work
  }
}

/** How many events got a place. */
async function fromServer(
  deps: BackfillDeps,
  room: RoomInfo,
  server: ServerName,
  { gaps, limit }: { readonly gaps: readonly EventId[]; readonly limit: number },
): Promise<number> {
  const { sql, fetcher } = deps
  const given = await fetcher.backfill(server, room, { from: gaps, limit })
  const batch = reachable(gaps, given)
  if (batch.length === 0) return 0
  await haveAuthEvents(deps, room, server, batch)
  await storeOutliers(deps, room, batch)
  const own = new Set(batch.map(({ pdu }) => pdu.event_id))
  const before = await knownPrevious(
    sql,
    room,
    batch.flatMap(({ pdu }) => pdu.prev_events.filter((id) => !own.has(id))),
  )
  const states = new Map<EventId, readonly EventId[]>()
  for (const { pdu } of batch.filter((event) => isBeginning(event, own, before)).slice(0, statesMax)) {
    states.set(pdu.event_id, (await haveState(deps, room, server, pdu.event_id)).pdu_ids)
  }
  return placeHistory(deps, room, batch, states)
}

/** What leads back from the gaps, oldest first: nothing else was asked for. */
function reachable(gaps: readonly EventId[], given: readonly StoredEvent[]): StoredEvent[] {
  const byId = new Map(given.map((event) => [event.pdu.event_id, event]))
  const found = new Set<StoredEvent>()
  const waiting = [...gaps]
  for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
    const event = byId.get(id)
    if (!event || found.has(event)) continue
    found.add(event)
    waiting.push(...event.pdu.prev_events)
  }
  // Servers answer with the newest first; of equal depth that order counts.
  return given
    .filter((event) => found.has(event))
    .reverse()
    .sort((a, b) => a.pdu.depth - b.pdu.depth)
}

/** The state before it can't be had from what it follows. */
function isBeginning(
  { pdu }: StoredEvent,
  batch: ReadonlySet<EventId>,
  before: ReadonlyMap<EventId, KnownPrevious>,
): boolean {
  return pdu.prev_events.length > 0 && pdu.prev_events.some((id) => !batch.has(id) && !before.get(id)?.state_root)
}

async function haveAuthEvents(
  deps: BackfillDeps,
  room: RoomInfo,
  server: ServerName,
  batch: readonly StoredEvent[],
): Promise<void> {
  const { sql, fetcher } = deps
  const own = new Set(batch.map(({ pdu }) => pdu.event_id))
  const missing = async () => {
    const named = [...new Set(batch.flatMap(({ pdu }) => pdu.auth_events))].filter((id) => !own.has(id))
    const known = await knownPrevious(sql, room, named)
    return named.filter((id) => !known.has(id))
  }
  const newest = batch.at(-1)
  if (!newest || (await missing()).length === 0) return
  await storeOutliers(deps, room, await fetcher.authChain(server, room, newest.pdu.event_id))
  const rest = await missing()
  if (rest.length > 0) await storeOutliers(deps, room, await fetcher.events(server, room, rest.slice(0, 100)))
}
