/** What a server is told of a room that its user is invited to or knocks on.
 *  https://spec.matrix.org/v1.19/client-server-api/#stripped-state */
import type { RoomRules } from '../core/room-versions.ts'
import { wireFromParts } from '../matrix/event-format.ts'
import type { RoomId } from '../matrix/ids.ts'
import { strippedStateJson } from '../timeline/client-json.ts'
import { fromPgText, type ReadSql } from './sql.ts'

export const strippedTypes = [
  'm.room.create',
  'm.room.name',
  'm.room.avatar',
  'm.room.topic',
  'm.room.join_rules',
  'm.room.canonical_alias',
  'm.room.encryption',
] as const

/** JSON of each. Where the room's id is its create event's hash, the events are whole: who gets them can tell that they are
 *  of that room. */
export async function strippedStateTexts(sql: ReadSql, room_id: RoomId, rules: RoomRules): Promise<string[]> {
  const rows = await sql<{ type: string; state_key: string; sender: string; content: string; envelope: string }[]>`
    select e.type, e.state_key, e.sender, e.content, e.envelope
    from current_state c join events e using (event_nid) join rooms r on r.room_nid = c.room_nid
    where r.room_id = ${room_id} and c.state_key = '' and c.type = any(${sql.array([...strippedTypes], 25)}::text[])`
  return rows.map(({ type, state_key, sender, content, envelope }) =>
    rules.roomIdIsCreateHash
      ? wireFromParts(envelope, content)
      : strippedStateJson({ type: fromPgText(type), state_key, sender: fromPgText(sender), content }),
  )
}
