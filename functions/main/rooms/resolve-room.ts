/** The state where forks of a room meet: of the roots at the ends of its forks, one state by the version's resolution.
 *  https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution */
import { conflictOf } from '../../../shared/core/state-resolution/resolve.ts'
import { pduFromStored } from '../../../shared/matrix/event-format.ts'
import type { EventId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { StateTrees } from '../persist/state-types.ts'
import type { AuthChains } from './auth-chains.ts'
import { resolveConflict } from './drive-resolution.ts'
import type { Room } from './room.ts'

interface Deps {
  readonly sql: MainSql
  readonly stateTrees: StateTrees
  readonly authChains: AuthChains
}

/** A state by stateMapKey, each event with both its names. */
export type NamedState = Map<string, { readonly event_nid: number; readonly event_id: EventId }>

/** `fresh`: an event that is in the states, but not stored yet. */
export async function resolveRoots(
  deps: Deps,
  room: Room,
  roots: readonly number[],
  fresh?: { readonly event_nid: number; readonly pdu: Pdu },
): Promise<NamedState> {
  const distinct = [...new Set(roots.filter((root) => root !== 0))]
  const states = await Promise.all(distinct.map((root) => deps.stateTrees.load(root)))
  const names = await eventIds(deps.sql, room, states, fresh)
  const nids = new Map<EventId, number>()
  for (const [event_nid, event_id] of names) nids.set(event_id, event_nid)
  const sets = states.map((state) => new Map(Array.from(state, ([key, nid]) => [key, nameOf(names, nid)])))
  const resolved: NamedState = new Map()
  const take = (map: ReadonlyMap<string, EventId>) => {
    for (const [key, event_id] of map) {
      const event_nid = nids.get(event_id)
      if (event_nid === undefined) throw new Error(`state resolution chose ${event_id}, which is not stored`)
      resolved.set(key, { event_nid, event_id })
    }
  }
  const conflict = conflictOf(room.rules, sets)
  take(conflict.agreed)
  if (conflict.conflicted.size === 0) return resolved
  const differing = states.map((state) => [...state.values()])
  const difference = await eventIdsOf(deps.sql, [...(await deps.authChains.difference(room.room_id, differing))])
  if (fresh && nids.has(fresh.pdu.event_id)) difference.set(fresh.event_nid, fresh.pdu.event_id)
  for (const [event_nid, event_id] of difference) nids.set(event_id, event_nid)
  const index = room.rules.stateResolution === 'v1' ? {} : { difference: new Set(difference.values()) }
  const load = async (ids: readonly EventId[]) => {
    const pdus = await pdusById(deps.sql, room, ids)
    if (fresh && ids.includes(fresh.pdu.event_id)) pdus.set(fresh.pdu.event_id, fresh.pdu)
    return pdus
  }
  const chosen = await resolveConflict(room.rules, { sets, conflict }, load, index)
  // From version 12 on an event that none of the states has any more may win, out of the conflicted state subgraph.
  const others = [...chosen.values()].filter((event_id) => !nids.has(event_id))
  for (const [event_id, event_nid] of await eventNids(deps.sql, others)) nids.set(event_id, event_nid)
  take(chosen)
  return resolved
}

function nameOf(names: ReadonlyMap<number, EventId>, event_nid: number): EventId {
  const event_id = names.get(event_nid)
  if (!event_id) throw new Error(`state names event ${event_nid}, which is not stored`)
  return event_id
}

/** The current state gives most names; the database the others. */
async function eventIds(
  sql: MainSql,
  room: Room,
  states: readonly ReadonlyMap<string, number>[],
  fresh: { readonly event_nid: number; readonly pdu: Pdu } | undefined,
): Promise<Map<number, EventId>> {
  const names = new Map<number, EventId>()
  if (fresh) names.set(fresh.event_nid, fresh.pdu.event_id)
  for (const entry of room.state.values()) names.set(entry.event_nid, entry.event_id)
  const missing = new Set<number>()
  for (const state of states) for (const nid of state.values()) if (!names.has(nid)) missing.add(nid)
  for (const [nid, id] of await eventIdsOf(sql, [...missing])) names.set(nid, id)
  return names
}

async function eventIdsOf(sql: MainSql, event_nids: readonly number[]): Promise<Map<number, EventId>> {
  if (event_nids.length === 0) return new Map()
  const rows = await sql<{ event_nid: number; event_id: EventId }[]>`
    select event_nid, event_id from events where event_nid = any(${sql.array([...event_nids], 20)}::bigint[])`
  return new Map(rows.map((row) => [row.event_nid, row.event_id]))
}

async function eventNids(sql: MainSql, event_ids: readonly EventId[]): Promise<Map<EventId, number>> {
  if (event_ids.length === 0) return new Map()
  const rows = await sql<{ event_nid: number; event_id: EventId }[]>`
    select event_nid, event_id from events where event_id = any(${sql.array([...event_ids], 25)}::text[])`
  return new Map(rows.map((row) => [row.event_id, row.event_nid]))
}

/** Events of the room by id; what is not stored is left out. */
export async function pdusById(
  sql: MainSql,
  room: Pick<Room, 'room_id' | 'room_nid' | 'rules'>,
  ids: readonly EventId[],
): Promise<Map<EventId, Pdu>> {
  if (ids.length === 0) return new Map()
  const rows = await sql<{ event_id: EventId; envelope: string; content: string; flags: number }[]>`
    select event_id, envelope, content, flags from events
    where event_id = any(${sql.array([...ids], 25)}::text[]) and room_nid = ${room.room_nid}`
  return new Map(
    rows.map((row) => {
      const pdu = pduFromStored(room.rules, row.event_id, room.room_id, row.envelope, row.content)
      return [row.event_id, row.flags & rejectedFlag ? { ...pdu, rejected: true } : pdu]
    }),
  )
}

/** Values of `events.flags`. */
export const rejectedFlag = 1
export const softFailedFlag = 2
export const outlierFlag = 4

/** Hidden events that are looked behind, one after the other: as many as a chain of them is likely to have. */
const hiddenDepthMax = 10

/** What events that no timeline shows have followed: who follows them follows that as well.
 *  https://spec.matrix.org/v1.19/server-server-api/#rejection */
export async function behindHidden(
  sql: MainSql,
  room: Pick<Room, 'room_id' | 'room_nid' | 'rules'>,
  previous: readonly { readonly event_id: EventId; readonly flags: number }[],
): Promise<Set<EventId>> {
  const followed = new Set<EventId>()
  let hidden = previous.filter(isHidden).map((event) => event.event_id)
  for (let depth = 0; hidden.length > 0 && depth < hiddenDepthMax; depth++) {
    const ids: EventId[] = []
    for (const pdu of (await pdusById(sql, room, hidden)).values()) ids.push(...pdu.prev_events)
    const fresh = ids.filter((id) => !followed.has(id))
    for (const id of fresh) followed.add(id)
    const rows = await sql<{ event_id: EventId }[]>`
      select event_id from events where event_id = any(${sql.array(fresh, 25)}::text[])
        and flags & ${rejectedFlag | softFailedFlag} <> 0 and flags & ${outlierFlag} = 0`
    hidden = rows.map((row) => row.event_id)
  }
  return followed
}

function isHidden({ flags }: { readonly flags: number }): boolean {
  return (flags & (rejectedFlag | softFailedFlag)) !== 0 && (flags & outlierFlag) === 0
}
