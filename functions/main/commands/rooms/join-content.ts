/** Restricted rooms: who is in a room that the join rule names may join, on the word of a member who may invite.
 *  https://spec.matrix.org/v1.19/client-server-api/#restricted-rooms */

import * as v from 'valibot'
import { actionLevel, powerLevelOf } from '../../../../shared/core/power-levels.ts'
import { RoomId, type ServerName, serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import { ensureLoaded } from '../../rooms/load-room.ts'
import { authStateOf, membershipOf, type Room, statePdu } from '../../rooms/room.ts'

/** What a join's content needs besides the profile: nothing, or who authorises it. Throws M_FORBIDDEN where the room is
 *  restricted and the user fulfils none of its conditions, M_UNABLE_TO_GRANT_JOIN where they do, and only members of other
 *  servers may let them in. `remote`: a user of another server, who may find a server that
 *  can say more than this one. */
export async function joinContent(
  deps: { readonly sql: MainSql; readonly remote?: boolean },
  room: Room,
  user: UserId,
): Promise<JsonObject> {
  const { rules } = room
  if (!rules.restrictedJoins) return {}
  const membership = membershipOf(room, user)
  if (membership === 'join' || membership === 'invite' || membership === 'ban') return {}
  await ensureLoaded(deps.sql, room, [
    ['m.room.join_rules', ''],
    ['m.room.power_levels', ''],
  ])
  const content = statePdu(room, 'm.room.join_rules', '')?.content ?? {}
  if (content.join_rule !== 'restricted' && !(rules.knockRestricted && content.join_rule === 'knock_restricted')) {
    return {}
  }
  const rooms = allowedRooms(content)
  if (rooms.length === 0 || !(await isJoinedToAny(deps.sql, user, rooms))) {
    // https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms
    if (deps.remote && rooms.length > 0 && !(await isInAll(deps.sql, rooms))) {
      throw new MatrixError('M_UNABLE_TO_AUTHORISE_JOIN', 'This server is not in all rooms that may let the user in')
    }
    throw new MatrixError('M_FORBIDDEN', 'You are in none of the rooms whose members may join this one')
  }
  const authoriser = authoriserIn(room)
  if (!authoriser) {
    throw new MatrixError('M_UNABLE_TO_GRANT_JOIN', 'Nobody on this server may let the user into the room')
  }
  return { join_authorised_via_users_server: authoriser }
}

/** Rooms of conditions of type m.room_membership; other types, and what is malformed, allow nobody. */
export function allowedRooms(content: JsonObject): RoomId[] {
  if (!Array.isArray(content.allow)) return []
  const rooms: RoomId[] = []
  for (const condition of content.allow) {
    if (!isJsonObject(condition) || condition.type !== 'm.room_membership') continue
    if (v.is(RoomId, condition.room_id)) rooms.push(condition.room_id as RoomId)
  }
  return rooms
}

async function isJoinedToAny(sql: MainSql, user: UserId, rooms: readonly RoomId[]): Promise<boolean> {
  const [found] = await sql`
    select 1 from memberships m join rooms r using (room_nid)
    where m.user_id = ${user} and m.membership = 'join' and r.room_id in ${sql(rooms)}
      -- Of a room that this server has left it does not know who is in it.
      and exists (select from memberships o where o.room_nid = m.room_nid and o.membership = 'join' and o.local)
    limit 1`
  return found !== undefined
}

async function isInAll(sql: MainSql, rooms: readonly RoomId[]): Promise<boolean> {
  const [row] = await sql<{ count: number }[]>`
    select count(*) as count from rooms r where r.room_id in ${sql(rooms)}
      and exists (select from memberships m where m.room_nid = r.room_nid and m.membership = 'join' and m.local)`
  return row?.count === rooms.length
}

/** Other servers whose members may let somebody in, the most powerful first. The power levels must have been loaded. */
export function otherAuthorisers(room: Room, own: ServerName): ServerName[] {
  const state = authStateOf(room)
  const needed = actionLevel(room.rules, state, 'invite')
  const levels = new Map<ServerName, number>()
  for (const [key, { membership }] of room.state) {
    if (membership !== 'join' || !key.startsWith(memberKey)) continue
    const user = key.slice(memberKey.length) as UserId
    const server = serverNameOf(user)
    const level = powerLevelOf(room.rules, state, user)
    if (server !== own && level >= needed) levels.set(server, Math.max(level, levels.get(server) ?? level))
  }
  return [...levels].sort(([, a], [, b]) => b - a).map(([server]) => server)
}
const memberKey = 'm.room.member\0'

/** A joined user of this server who may invite: the most powerful, so that the join outlasts changes of lesser ones. */
function authoriserIn(room: Room): UserId | undefined {
  const state = authStateOf(room)
  const needed = actionLevel(room.rules, state, 'invite')
  let best: { user: UserId; level: number } | undefined
  for (const user of room.local_members.keys()) {
    const level = powerLevelOf(room.rules, state, user)
    if (level >= needed && (!best || level > best.level)) best = { user, level }
  }
  return best?.user
}
