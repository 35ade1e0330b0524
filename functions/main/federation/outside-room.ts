/** Member events of users of this server in rooms that it is not in: invitations, knocks, and their ends. The room has no
 *  state here but what its users were told; their events have a place in the stream, so that they hear of them. */
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { RoomId, ServerName, UserId } from '../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { Nids } from '../persist/nids.ts'
import type { RoomWrite, Writes } from '../persist/writes.ts'
import type { AuthChains } from '../rooms/auth-chains.ts'
import { membershipIn, profileIn, relationOf, rowOf } from '../rooms/event-row.ts'
import type { PushOutcome } from '../rooms/push-outcomes.ts'

export interface OutsideRoom {
  readonly room_nid: number
  readonly room_id: RoomId
  readonly room_version: string
}

export interface OutsideStanding {
  readonly membership: string
  readonly event_id: string
  readonly sender: UserId
  /** Of the event: what is no deeper was said before it. */
  readonly depth: number
}

export interface KnownRoom extends OutsideRoom {
  /** Its state is here, or was. Where it is not, the version is what somebody said who invited a user. */
  readonly isHeld: boolean
}

/** The room's row; undefined where nobody here has heard of it. */
export async function outsideRoom(sql: MainSql, room_id: RoomId): Promise<KnownRoom | undefined> {
  const [row] = await sql<KnownRoom[]>`
    select room_nid, room_id, room_version, exists (select from room_heads h where h.room_nid = r.room_nid) as "isHeld"
    from rooms r where room_id = ${room_id}`
  return row
}

export async function standingOf(sql: MainSql, room_id: RoomId, user_id: UserId): Promise<OutsideStanding | undefined> {
  const [row] = await sql<OutsideStanding[]>`
    select m.membership, e.event_id, m.sender, e.depth from memberships m join rooms r using (room_nid)
    join events e on e.event_nid = m.event_nid where r.room_id = ${room_id} and m.user_id = ${user_id}`
  return row
}

export function newRoom(room: OutsideRoom, about: Pick<RoomWrite, 'creator' | 'created_ts'>): Writes {
  return { rooms: [{ ...room, ...about, published: false }] }
}

/** For a room that was known by hearsay alone. */
export function roomAsCreated(
  { room_nid, room_id, room_version }: OutsideRoom,
  { creator, created_ts }: Pick<RoomWrite, 'creator' | 'created_ts'>,
): Writes {
  return {
    also: (tx) => [
      tx`update rooms set room_version = ${room_version}, creator = ${creator}, created_ts = ${created_ts}
        where room_nid = ${room_nid}`,
    ],
    invalidations: [{ cache: 'room', key: room_id }],
  }
}

/** `outcome`: whom it notifies; undefined: nobody. `stripped`: JSON array of what the user is told of the room, from now on; undefined: nothing. */
export async function outsideWrites(
  deps: { readonly nids: Nids; readonly serverName: ServerName; readonly authChains: AuthChains },
  room: Pick<OutsideRoom, 'room_nid' | 'room_id'>,
  { pdu, content, envelope }: StoredEvent,
  more: {
    readonly before: string | undefined
    readonly stripped: string | undefined
    readonly outcome?: PushOutcome | undefined
  },
): Promise<Writes> {
  const event_nid = await deps.nids.next()
  const user_id = pdu.state_key as UserId
  const row = rowOf(room, { event_nid, pdu, content, relation: relationOf(pdu.content), thread_root: undefined })
  if (more.outcome) {
    row.push = more.outcome.push
    row.deviations = [...more.outcome.deviations]
  }
  row.member = {
    user_id,
    membership: membershipIn(pdu),
    ...(more.before === undefined ? undefined : { prev_membership: more.before }),
    local: true,
    joined_members: 0,
    invited_members: 0,
  }
  const { room_nid } = room
  return {
    events: [
      {
        row,
        envelope,
        depth: pdu.depth,
        state_root: 0,
        flags: 0,
        visible: true,
        current_state: true,
        member_profile: profileIn(pdu),
      },
    ],
    auth_chains: await deps.authChains.assign(room.room_id, [{ event_nid, auth_event_nids: [] }]),
    invalidations: [{ cache: 'room', key: room.room_id }],
    also: (tx) => [
      more.stripped === undefined
        ? tx`delete from stripped_states where room_nid = ${room_nid} and user_id = ${user_id}`
        : tx`insert into stripped_states (room_nid, user_id, events) values (${room_nid}, ${user_id}, ${more.stripped})
            on conflict (room_nid, user_id) do update set events = excluded.events`,
    ],
  }
}
