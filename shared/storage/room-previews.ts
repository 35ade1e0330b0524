/** What somebody who is not in a room may be told of it, and what rooms a space links to. */
import { allowedRooms } from '../core/room-access.ts'
import type { RoomId, ServerName, UserId } from '../matrix/ids.ts'
import { isJsonObject } from '../matrix/json-value.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export interface RoomPreview {
  readonly room_nid: number
  readonly room_id: RoomId
  readonly room_version: string
  readonly joined_members: number
  readonly name: string | null
  readonly topic: string | null
  readonly canonical_alias: string | null
  readonly avatar_url: string | null
  readonly join_rule: string | null
  readonly history_visibility: string | null
  readonly guest_access: string | null
  readonly room_type: string | null
  /** Algorithm. */
  readonly encryption: string | null
  /** Of who asks. */
  readonly membership: string | null
  /** The rooms whose members a restricted room lets in. */
  readonly allowed_room_ids: readonly string[]
}

/** The rooms among `room_ids` that this server knows, in no order; without `user` as a stranger sees them. */
export async function roomPreviews(
  sql: ReadSql,
  room_ids: readonly string[],
  user: UserId | undefined,
): Promise<RoomPreview[]> {
  if (room_ids.length === 0) return []
  const rows = await sql<(Omit<RoomPreview, 'allowed_room_ids'> & { join_rules: string | null })[]>`
    select r.room_nid, r.room_id, r.room_version, s.joined_members, s.name, s.topic, s.canonical_alias, s.avatar_url,
      s.join_rule, s.history_visibility, s.guest_access, s.room_type, s.encryption, m.membership,
      j.content as join_rules
    from rooms r join room_summaries s using (room_nid)
    left join memberships m on m.user_id = ${user ?? ''} and m.room_nid = r.room_nid
    left join current_state c on c.room_nid = r.room_nid and c.type = 'm.room.join_rules' and c.state_key = ''
      and s.join_rule in ('restricted', 'knock_restricted')
    left join events j on j.event_nid = c.event_nid
    where r.room_id = any(${sql.array(room_ids.map(pgText), 25)}::text[])`
  return rows.map(({ join_rules, ...row }) => ({
    ...row,
    name: plain(row.name),
    topic: plain(row.topic),
    canonical_alias: plain(row.canonical_alias),
    avatar_url: plain(row.avatar_url),
    join_rule: plain(row.join_rule),
    room_type: plain(row.room_type),
    encryption: plain(row.encryption),
    allowed_room_ids: allowedRooms(objectIn(join_rules)),
  }))
}

/** Those of the rooms that the user is joined to. */
export async function joinedAmong(sql: ReadSql, user: UserId, room_ids: readonly string[]): Promise<Set<string>> {
  if (room_ids.length === 0) return new Set()
  const rows = await sql<{ room_id: string }[]>`
    select r.room_id from rooms r join memberships m on m.user_id = ${user} and m.room_nid = r.room_nid
    where r.room_id = any(${sql.array(room_ids.map(pgText), 25)}::text[]) and m.membership = 'join'`
  return new Set(rows.map((row) => row.room_id))
}

/** Those of the rooms in which a user of the server is joined, or invited. */
export async function roomsOfServer(
  sql: ReadSql,
  server: ServerName,
  room_ids: readonly string[],
): Promise<{ readonly joined: ReadonlySet<string>; readonly invited: ReadonlySet<string> }> {
  const rows = await sql<{ room_id: string; membership: string }[]>`
    select distinct r.room_id, m.membership from rooms r join memberships m using (room_nid)
    where r.room_id = any(${sql.array(room_ids.map(pgText), 25)}::text[]) and m.membership in ('join', 'invite')
      and server_of(m.user_id) = ${server}`
  const having = (membership: string) =>
    new Set(rows.filter((row) => row.membership === membership).map((row) => row.room_id))
  return { joined: having('join'), invited: having('invite') }
}

/** Those of the rooms that a user of this server is in: what it says of them is true. */
export async function knownAmong(sql: ReadSql, room_ids: readonly string[]): Promise<Set<string>> {
  if (room_ids.length === 0) return new Set()
  const rows = await sql<{ room_id: string }[]>`
    select r.room_id from rooms r where r.room_id = any(${sql.array(room_ids.map(pgText), 25)}::text[])
      and exists (select from memberships m where m.room_nid = r.room_nid and m.membership = 'join' and m.local)`
  return new Set(rows.map((row) => row.room_id))
}

/** The rooms that are reached from a space by links from spaces to rooms, the space itself first; the nearest ones where
 *  there are more than `max`. Who may see them is not looked at. */
export async function roomsReached(sql: ReadSql, root: RoomId, max: number): Promise<RoomId[]> {
  const rows = await sql<{ room_id: RoomId }[]>`
    with recursive reached (room_nid, room_id) as (
      select room_nid, room_id from rooms where room_id = ${root}
      union
      select r.room_nid, r.room_id from reached
      join room_summaries s on s.room_nid = reached.room_nid and s.room_type = 'm.space'
      join current_state c on c.room_nid = reached.room_nid and c.type = 'm.space.child'
      join rooms r on r.room_id = c.state_key
    )
    select room_id from reached limit ${max}`
  return rows.map((row) => row.room_id)
}

/** A m.space.child event of the present state. https://spec.matrix.org/v1.19/client-server-api/#mspacechild */
export interface SpaceLink {
  readonly room_nid: number
  readonly event_nid: number
  /** The child's room id, as far as the state key is one. */
  readonly state_key: string
  readonly sender: UserId
  readonly origin_server_ts: number
  /** JSON text. */
  readonly content: string
}

/** The links of these rooms, `maxPerRoom` of each. */
export async function spaceLinks(sql: ReadSql, room_nids: readonly number[], maxPerRoom: number): Promise<SpaceLink[]> {
  if (room_nids.length === 0) return []
  const rows = await sql<SpaceLink[]>`
    select e.room_nid, e.event_nid, c.state_key, e.sender, e.origin_server_ts, e.content
    from unnest(${sql.array([...room_nids], 20)}::bigint[]) as q(room_nid)
    cross join lateral (
      select state_key, event_nid from current_state
      where room_nid = q.room_nid and type = 'm.space.child' order by state_key limit ${maxPerRoom}
    ) c join events e on e.event_nid = c.event_nid`
  return rows.map((row) => ({ ...row, state_key: fromPgText(row.state_key) }))
}

function plain(text: string | null): string | null {
  return text && fromPgText(text)
}

function objectIn(text: string | null) {
  const parsed: unknown = text === null ? undefined : JSON.parse(text)
  return isJsonObject(parsed) ? parsed : undefined
}
