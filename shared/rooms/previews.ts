/** Rooms as who is not in them may see them. */
import { mayPreview } from '../core/room-access.ts'
import type { ServerName, UserId } from '../matrix/ids.ts'
import { joinedAmong, type RoomPreview, roomPreviews, roomsOfServer } from '../storage/room-previews.ts'
import type { ReadSql } from '../storage/sql.ts'

/** By room id, those of the rooms that exist and that the user may be told of; without a user, as a stranger. */
export async function visiblePreviews(
  sql: ReadSql,
  room_ids: readonly string[],
  user: UserId | undefined,
): Promise<ReadonlyMap<string, RoomPreview>> {
  const found = await roomPreviews(sql, room_ids, user)
  const opening = new Set(found.flatMap((room) => room.allowed_room_ids))
  const joined = user === undefined ? new Set<string>() : await joinedAmong(sql, user, [...opening])
  const visible = new Map<string, RoomPreview>()
  for (const room of found) {
    if (mayPreview({ ...room, inAllowedRoom: room.allowed_room_ids.some((id) => joined.has(id)) })) {
      visible.set(room.room_id, room)
    }
  }
  return visible
}

/** By room id, those of the rooms that exist and that some user of the server may be told of. */
export async function previewsForServer(
  sql: ReadSql,
  room_ids: readonly string[],
  server: ServerName,
): Promise<ReadonlyMap<string, RoomPreview>> {
  const found = await roomPreviews(sql, room_ids, undefined)
  const asked = new Set([...found.map((room) => room.room_id), ...found.flatMap((room) => room.allowed_room_ids)])
  const { joined, invited } = await roomsOfServer(sql, server, [...asked])
  const visible = new Map<string, RoomPreview>()
  for (const room of found) {
    const membership = joined.has(room.room_id) ? 'join' : invited.has(room.room_id) ? 'invite' : null
    const inAllowedRoom = room.allowed_room_ids.some((id) => joined.has(id))
    if (mayPreview({ ...room, membership, inAllowedRoom })) visible.set(room.room_id, room)
  }
  return visible
}

/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1room_summaryroomidoralias_response-200_roomsummary */
export function previewJson(room: RoomPreview) {
  const { name, topic, canonical_alias, avatar_url, join_rule, room_type, encryption, allowed_room_ids } = room
  return {
    room_id: room.room_id,
    num_joined_members: room.joined_members,
    world_readable: room.history_visibility === 'world_readable',
    guest_can_join: room.guest_access === 'can_join',
    room_version: room.room_version,
    ...(name ? { name } : {}),
    ...(topic ? { topic } : {}),
    ...(canonical_alias ? { canonical_alias } : {}),
    ...(avatar_url ? { avatar_url } : {}),
    ...(join_rule ? { join_rule } : {}),
    ...(room_type ? { room_type } : {}),
    ...(encryption ? { encryption } : {}),
    ...(allowed_room_ids.length > 0 ? { allowed_room_ids } : {}),
  }
}
