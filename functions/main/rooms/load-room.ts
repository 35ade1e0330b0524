/** Brings a room from the database into memory: one flight of queries for the room, one more for what is asked for later. */
import { rulesOf } from '../../../shared/core/room-versions.ts'
import { pduFromStored } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { Pdu } from '../../../shared/matrix/pdu.ts'
import { fromPgText, type MainSql } from '../../../shared/storage/sql.ts'
import { stateMapKey } from '../persist/state-types.ts'
import type { Extremity, LocalMember, Room, RoomSummary, StateEntry, StateKey } from './room.ts'

/** Loaded with the room: what nearly every authorisation needs. Members are loaded as they speak. */
const loadedTypes = [
  'm.room.create',
  'm.room.power_levels',
  'm.room.join_rules',
  'm.room.history_visibility',
  'm.room.policy',
]

interface StateRow {
  type: string
  state_key: string
  event_nid: number
  event_id: EventId
  sender: UserId
  membership: string | null
  envelope: string | null
  content: string | null
}

/** undefined: this server does not know the room. */
export async function loadRoom(sql: MainSql, room_id: RoomId): Promise<Room | undefined> {
  const [head] = await sql<
    { room_nid: number; room_version: string; extremities: number[]; state_root: number; depth: number }[]
  >`
    select r.room_nid, r.room_version, to_json(h.forward_extremities) as extremities, h.state_root, h.depth
    from rooms r join room_heads h using (room_nid) where r.room_id = ${room_id}`
  if (!head) return undefined
  const rules = rulesOf(head.room_version)
  if (!rules) throw new Error(`room ${room_id} has version ${head.room_version}, which this server does not know`)
  const { room_nid } = head
  const [extremities, state, summaries, members] = await Promise.all([
    sql<Extremity[]>`
      select event_nid, event_id, depth, state_root from events where event_nid in ${sql(head.extremities)}`,
    sql<StateRow[]>`
      select c.type, c.state_key, c.event_nid, e.event_id, e.sender, m.membership,
        case when c.type in ${sql(loadedTypes)} then e.envelope end as envelope,
        case when c.type in ${sql(loadedTypes)} then e.content end as content
      from current_state c join events e on e.event_nid = c.event_nid
      left join memberships m on c.type = 'm.room.member' and m.room_nid = c.room_nid and m.user_id = c.state_key
      where c.room_nid = ${room_nid}`,
    sql<{ [K in keyof RoomSummary]: Exclude<RoomSummary[K], undefined> | null }[]>`
      select joined_members, invited_members, name, topic, canonical_alias, avatar_url, join_rule, history_visibility,
        guest_access, room_type, encryption
      from room_summaries where room_nid = ${room_nid}`,
    sql<{ user_id: UserId; display_name: string | null }[]>`
      select user_id, display_name from memberships where room_nid = ${room_nid} and membership = 'join' and local`,
  ])
  const entries = new Map<string, StateEntry>()
  for (const row of state) {
    const type = fromPgText(row.type)
    const state_key = fromPgText(row.state_key)
    entries.set(stateMapKey(type, state_key), {
      event_nid: row.event_nid,
      event_id: row.event_id,
      sender: fromPgText(row.sender) as UserId,
      membership: row.membership ?? undefined,
      loaded:
        row.envelope !== null && row.content !== null
          ? { pdu: pduFromStored(rules, row.event_id, room_id, row.envelope, row.content), content: row.content }
          : undefined,
    })
  }
  const local_members = new Map<UserId, LocalMember>(
    members.map(({ user_id: stored, display_name }) => {
      const user_id = fromPgText(stored) as UserId
      return [user_id, { user_id, display_name: display_name === null ? undefined : fromPgText(display_name) }]
    }),
  )
  return {
    room_nid,
    room_id,
    rules,
    extremities,
    depth: head.depth,
    state_root: head.state_root,
    state: entries,
    summary: summaryOf(summaries[0]),
    local_members,
    push: undefined,
    threads: new Map(),
    reactions: new Set(),
    stale: false,
    tasks: 0,
    commits: 0,
  }
}

function summaryOf(row: Readonly<Record<string, string | number | null>> | undefined): RoomSummary {
  const summary: Record<string, string | number> = { joined_members: 0, invited_members: 0 }
  for (const [key, value] of Object.entries(row ?? {})) {
    if (value !== null) summary[key] = typeof value === 'string' ? fromPgText(value) : value
  }
  return summary as unknown as RoomSummary
}

/** Makes the current state events at `keys` ready for `statePdu`; costs nothing where they are. */
export function ensureLoaded(sql: MainSql, room: Room, keys: readonly StateKey[]): Promise<void> | undefined {
  let missing: StateEntry[] | undefined
  for (const [type, state_key] of keys) {
    const entry = room.state.get(stateMapKey(type, state_key))
    if (entry && !entry.loaded) {
      missing ??= []
      missing.push(entry)
    }
  }
  return missing && loadEntries(sql, room, missing)
}

async function loadEntries(sql: MainSql, room: Room, entries: readonly StateEntry[]): Promise<void> {
  const found = await loadEvents(
    sql,
    room,
    entries.map((entry) => entry.event_nid),
  )
  for (const entry of entries) {
    entry.loaded = found.get(entry.event_nid)
    if (!entry.loaded)
      throw new Error(`current state of ${room.room_id} names event ${entry.event_id}, which is not stored`)
  }
}

export interface LoadedEvent {
  readonly pdu: Pdu
  readonly content: string
  readonly event_nid: number
}

export async function loadEvents(
  sql: MainSql,
  room: Pick<Room, 'rules' | 'room_id'>,
  event_nids: readonly number[],
): Promise<Map<number, LoadedEvent>> {
  if (event_nids.length === 0) return new Map()
  const rows = await sql<
    { event_nid: number; event_id: EventId; envelope: string; content: string; flags: number }[]
  >`select event_nid, event_id, envelope, content, flags from events where event_nid in ${sql(event_nids)}`
  return new Map(
    rows.map((row) => {
      const pdu = pduFromStored(room.rules, row.event_id, room.room_id, row.envelope, row.content)
      return [
        row.event_nid,
        { pdu: row.flags & 1 ? { ...pdu, rejected: true } : pdu, content: row.content, event_nid: row.event_nid },
      ]
    }),
  )
}
