/** Replaces a room's current state where forks were resolved: keys may go to other events than the one that came, or to
 *  none. */
import { type ServerName, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import type { MainSql, WriteTx } from '../../../shared/storage/sql.ts'
import { integers, texts } from '../persist/array-literals.ts'
import type { Writes } from '../persist/writes.ts'
import { changeCounts, changeLocalMember, forgetLocalMember } from './advance.ts'
import { membershipIn, profileIn } from './event-row.ts'
import { type LoadedEvent, loadEvents } from './load-room.ts'
import type { NamedState } from './resolve-room.ts'
import type { Room, StateEntry } from './room.ts'
import { isSummaryType, summarise } from './room-summary.ts'

export interface CurrentStateChange {
  readonly type: string
  readonly state_key: string
  readonly before: StateEntry | undefined
  readonly after: (StateEntry & { readonly loaded: NonNullable<StateEntry['loaded']> }) | undefined
}

/** Brings the room in memory to `state`; `fresh` is the event that is not stored yet. */
export async function replaceState(
  deps: { readonly sql: MainSql; readonly serverName: ServerName },
  room: Room,
  state: NamedState,
  fresh: LoadedEvent,
): Promise<CurrentStateChange[]> {
  const differing: [key: string, event_nid: number | undefined][] = []
  for (const [key, { event_nid }] of state) {
    if (room.state.get(key)?.event_nid !== event_nid) differing.push([key, event_nid])
  }
  for (const key of room.state.keys()) if (!state.has(key)) differing.push([key, undefined])
  const events = await loadEvents(
    deps.sql,
    room,
    differing.flatMap(([, nid]) => (nid === undefined || nid === fresh.event_nid ? [] : nid)),
  )
  events.set(fresh.event_nid, fresh)
  return differing.map(([key, nid]) => {
    const nul = key.indexOf('\0')
    const type = key.slice(0, nul)
    const state_key = key.slice(nul + 1)
    const before = room.state.get(key)
    const event = nid === undefined ? undefined : events.get(nid)
    if (nid !== undefined && !event) throw new Error(`resolved state names event ${nid}, which is not stored`)
    const entry = event && {
      event_nid: event.event_nid,
      event_id: event.pdu.event_id,
      sender: event.pdu.sender,
      membership: type === 'm.room.member' ? membershipIn(event.pdu) : undefined,
    }
    const after = entry && { ...entry, loaded: { pdu: event.pdu, content: event.content } }
    // Of thousands of members few will speak: their events are loaded as they do.
    if (entry) room.state.set(key, type === 'm.room.member' && nid !== fresh.event_nid ? entry : { ...after! })
    else room.state.delete(key)
    if (type === 'm.room.member') {
      changeCounts(room, before?.membership, after?.membership)
      if (serverNameOf(state_key) === deps.serverName) {
        if (after) changeLocalMember(room, after.loaded.pdu, after.membership ?? 'leave')
        else forgetLocalMember(room, state_key as UserId)
      }
    } else if (state_key === '' && isSummaryType(type)) {
      summarise(room.summary, type, after?.loaded.pdu.content)
    }
    return { type, state_key, before, after }
  })
}

/** The changes that the new event's own write does not make. Readers are told to look at the room anew. */
export function currentStateWrites(
  deps: { readonly serverName: ServerName },
  room: Room,
  changes: readonly CurrentStateChange[],
  fresh_nid: number,
): Writes {
  const others = changes.filter((change) => change.after?.event_nid !== fresh_nid)
  if (others.length === 0) return {}
  const { room_nid } = room
  return {
    current_state_removals: others
      .filter((change) => !change.after)
      .map(({ type, state_key }) => ({ room_nid, type, state_key })),
    invalidations: [{ cache: 'room', key: room.room_id }],
    also: (tx) => [
      currentStateStatement(tx, room_nid, others),
      ...memberStatements(
        tx,
        deps,
        room_nid,
        others.filter((change) => change.type === 'm.room.member'),
      ),
    ],
  }
}

function currentStateStatement(tx: WriteTx, room_nid: number, changes: readonly CurrentStateChange[]) {
  const rows = changes.flatMap(({ type, state_key, after }) => (after ? { type, state_key, after } : []))
  return tx`
    insert into current_state (room_nid, type, state_key, event_nid)
    select ${room_nid}, type, state_key, event_nid
    from unnest(${texts(rows.map((row) => row.type))}::text::text[],
      ${texts(rows.map((row) => row.state_key))}::text::text[],
      ${integers(rows.map((row) => row.after.event_nid))}::text::bigint[]) as x(type, state_key, event_nid)
    on conflict (room_nid, type, state_key) do update set event_nid = excluded.event_nid`
}

/** A few statements, however many members there are. */
function memberStatements(
  tx: WriteTx,
  deps: { readonly serverName: ServerName },
  room_nid: number,
  changes: readonly CurrentStateChange[],
) {
  if (changes.length === 0) return []
  const gone = changes.filter((change) => !change.after)
  const there = changes.flatMap(({ state_key, before, after }) => {
    if (!after) return []
    const membership = after.membership ?? 'leave'
    const local = serverNameOf(state_key) === deps.serverName
    return { user_id: state_key, before, event_nid: after.event_nid, membership, local, ...profileIn(after.loaded.pdu) }
  })
  const changed = there.filter(({ local, before, membership }) => local && before?.membership !== membership)
  const statements = []
  if (gone.length > 0) {
    statements.push(tx`
      delete from memberships where room_nid = ${room_nid}
        and user_id = any(${texts(gone.map((one) => one.state_key))}::text::text[])`)
  }
  if (there.length > 0) {
    statements.push(tx`
      insert into memberships as m
        (user_id, room_nid, membership, event_nid, position, sender, display_name, avatar_url, local)
      select x.user_id, ${room_nid}, x.membership, x.event_nid, coalesce(e.position, 0), e.sender, x.display_name,
        x.avatar_url, x.local
      from unnest(${texts(there.map((one) => one.user_id))}::text::text[],
        ${texts(there.map((one) => one.membership))}::text::text[],
        ${integers(there.map((one) => one.event_nid))}::text::bigint[],
        ${texts(there.map((one) => one.display_name))}::text::text[],
        ${texts(there.map((one) => one.avatar_url))}::text::text[],
        ${texts(there.map((one) => String(one.local)))}::text::boolean[])
        as x(user_id, membership, event_nid, display_name, avatar_url, local)
      join events e on e.event_nid = x.event_nid
      on conflict (user_id, room_nid) do update set membership = excluded.membership, event_nid = excluded.event_nid,
        position = excluded.position, sender = excluded.sender, display_name = excluded.display_name,
        avatar_url = excluded.avatar_url, forgotten = m.forgotten and excluded.membership <> 'join'`)
  }
  if (changed.length > 0) {
    statements.push(tx`
      insert into membership_changes (user_id, position, room_nid, event_nid, membership, prev_membership)
      select user_id, (select position from streams where name = 'events'), ${room_nid}, event_nid, membership, before
      from unnest(${texts(changed.map((one) => one.user_id))}::text::text[],
        ${integers(changed.map((one) => one.event_nid))}::text::bigint[],
        ${texts(changed.map((one) => one.membership))}::text::text[],
        ${texts(changed.map((one) => one.before?.membership))}::text::text[])
        as x(user_id, event_nid, membership, before)
      on conflict (user_id, position) do nothing`)
  }
  return statements
}
