/** Gives events that are stored as outliers a place before what a room's timeline has, with the state after each. */
import { authStateOf, checkAuth } from '../../../shared/core/auth-rules.ts'
import { authEventKeys } from '../../../shared/core/auth-selection.ts'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { EventId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { StateChange } from '../persist/state-types.ts'
import type { RoomEngine, RoomTask } from '../rooms/engine.ts'
import { loadEvents } from '../rooms/load-room.ts'
import { rootOf } from '../rooms/receive-forked.ts'
import { outlierFlag, rejectedFlag, resolveRoots } from '../rooms/resolve-room.ts'
import type { Room } from '../rooms/room.ts'
import { gapWrites } from './gap-writes.ts'

type RoomInfo = Pick<Room, 'room_nid' | 'room_id' | 'rules'>

export interface KnownPrevious {
  readonly event_id: EventId
  readonly event_nid: number
  readonly state_root: number
  readonly flags: number
  readonly position: number | null
  readonly type: string
  readonly state_key: string | null
}

/** Those of the events that are here. */
export async function knownPrevious(
  sql: MainSql,
  { room_nid }: RoomInfo,
  ids: readonly EventId[],
): Promise<Map<EventId, KnownPrevious>> {
  if (ids.length === 0) return new Map()
  const rows = await sql<KnownPrevious[]>`
    select event_id, event_nid, state_root, flags, position, type, state_key from events
    where event_id = any(${sql.array([...new Set(ids)], 25)}::text[]) and room_nid = ${room_nid}`
  return new Map(rows.map((row) => [row.event_id, row]))
}

interface Placed {
  readonly event_nid: number
  readonly position: number | null
  readonly state_root: number
  readonly replaces_nid: number | null
  readonly flags: number
}

/** `batch`: oldest first, all stored. `states`: the state before those of them whose previous events are not here. Says how
 *  many got a place. */
export async function placeHistory(
  { sql, engine }: { readonly sql: MainSql; readonly engine: RoomEngine },
  room: RoomInfo,
  batch: readonly StoredEvent[],
  states: ReadonlyMap<EventId, readonly EventId[]>,
): Promise<number> {
  return engine.run(room.room_id, 'placeHistory', async (task) => {
    await task.drained()
    const named = [...batch.flatMap(({ pdu }) => [pdu.event_id, ...pdu.prev_events]), ...[...states.values()].flat()]
    const known = await knownPrevious(sql, room, named)
    const walk = createWalk(sql, engine, task, known)
    const done: (Omit<Placed, 'position'> & { readonly pdu: Pdu })[] = []
    for (const { pdu } of batch) {
      const own = known.get(pdu.event_id)
      if (!own || own.position !== null || (own.flags & ~(outlierFlag | rejectedFlag)) !== 0) continue
      const before = await walk.before(pdu, states.get(pdu.event_id))
      if (before === undefined) continue
      done.push({ pdu, event_nid: own.event_nid, ...(await walk.after(pdu, own, before)) })
    }
    const [lowest] = await sql<{ position: number | null }[]>`
      select min(position) as position from events where room_nid = ${room.room_nid} and position is not null`
    let position = Math.min(lowest?.position ?? 0, 0)
    const placed = done.toReversed().map(
      ({ pdu: _, ...one }): Placed => ({
        ...one,
        position: one.flags === 0 ? --position : null,
      }),
    )
    const ids = done.map(({ pdu }) => pdu.event_id)
    task.write({
      also: (tx) => [
        tx`update events e set position = x.position, state_root = x.state_root, replaces_nid = x.replaces_nid,
            flags = x.flags, thread_root = case when e.rel_type = 'm.thread' then e.relates_to end
          from jsonb_to_recordset(${JSON.stringify(placed)}::text::jsonb) as x(event_nid bigint, position bigint, state_root bigint,
            replaces_nid bigint, flags smallint)
          where e.event_nid = x.event_nid`,
        tx`delete from backward_gaps where room_nid = ${room.room_nid} and event_id = any(${tx.array(ids, 25)}::text[])`,
      ],
    })
    task.write(
      gapWrites(
        room.room_nid,
        done.flatMap(({ pdu }) => pdu.prev_events),
      ),
    )
    // Who may see what depends on member events and visibilities of earlier, too.
    if (done.some(({ pdu }) => pdu.state_key !== undefined)) {
      task.write({ invalidations: [{ cache: 'room', key: room.room_id }] })
    }
    return placed.filter((one) => one.position !== null).length
  })
}

/** States along the events, as they are known or become known. */
function createWalk(sql: MainSql, engine: RoomEngine, task: RoomTask, known: ReadonlyMap<EventId, KnownPrevious>) {
  const { stateTrees } = engine.deps
  const { room } = task
  const roots = new Map<EventId, number>()
  const merged = new Map<string, number>()
  const pdus = new Map<number, Pdu>()

  async function apply(base: number, changes: readonly StateChange[]): Promise<number> {
    const { root_id, writes } = await stateTrees.apply(base || undefined, room.room_nid, changes)
    task.write({ state: writes })
    return root_id
  }

  async function isAllowed(pdu: Pdu, root: number): Promise<boolean> {
    if (pdu.type === 'm.room.create') return true
    const keys = [...authEventKeys(room.rules, pdu), ['m.room.create', ''] as const]
    const nids = (await stateTrees.lookup(root, keys)).filter((nid) => nid !== undefined)
    const missing = nids.filter((nid) => !pdus.has(nid))
    for (const [nid, event] of await loadEvents(sql, room, missing)) pdus.set(nid, event.pdu)
    return checkAuth(room.rules, pdu, authStateOf(nids.flatMap((nid) => pdus.get(nid) ?? []))).allowed
  }

  return {
    /** 0 for a room's first event; undefined where it can't be known. */
    async before(pdu: Pdu, state: readonly EventId[] | undefined): Promise<number | undefined> {
      if (pdu.prev_events.length === 0) return pdu.type === 'm.room.create' ? 0 : undefined
      if (state) {
        const changes: StateChange[] = []
        for (const id of new Set(state)) {
          const row = known.get(id)
          if (!row || row.state_key === null || (row.flags & rejectedFlag) !== 0) continue
          changes.push({ type: row.type, state_key: row.state_key, event_nid: row.event_nid })
        }
        return changes.some(({ type }) => type === 'm.room.create') ? apply(0, distinct(changes)) : undefined
      }
      const previous = pdu.prev_events.map((id) => roots.get(id) ?? known.get(id)?.state_root ?? 0)
      if (previous.includes(0)) return undefined
      const different = [...new Set(previous)]
      const [only] = different
      if (different.length === 1 || only === undefined) return only
      const name = different.toSorted((a, b) => a - b).join(' ')
      const there = merged.get(name)
      if (there !== undefined) return there
      const { root, writes } = await rootOf(engine, room, only, await resolveRoots(engine.deps, room, different))
      task.write(writes)
      merged.set(name, root)
      return root
    },
    async after(pdu: Pdu, own: KnownPrevious, before: number): Promise<Omit<Placed, 'position' | 'event_nid'>> {
      const { state_key, type, event_id } = pdu
      const rejected = (own.flags & rejectedFlag) !== 0 || !(await isAllowed(pdu, before))
      if (rejected || state_key === undefined) {
        roots.set(event_id, before)
        return { state_root: before, replaces_nid: null, flags: rejected ? rejectedFlag : 0 }
      }
      const [replaces] = before === 0 ? [] : await stateTrees.lookup(before, [[type, state_key]])
      const state_root = await apply(before, [{ type, state_key, event_nid: own.event_nid }])
      roots.set(event_id, state_root)
      return { state_root, replaces_nid: replaces ?? null, flags: 0 }
    },
  }
}

/** One a key: of two that a server names, the later one. */
function distinct(changes: readonly StateChange[]): StateChange[] {
  return [...new Map(changes.map((change) => [`${change.type}\0${change.state_key}`, change])).values()]
}
