/** What of a room another server gets to see. */

import { type RoomRules, rulesOf } from '../core/room-versions.ts'
import { serverAcl } from '../core/server-acl.ts'
import { type HistoryVisibility, historyVisibilityOf } from '../core/visibility.ts'
import { parseText } from '../matrix/engine-json.ts'
import type { RoomId, ServerName } from '../matrix/ids.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { parseJsonObject } from '../matrix/parse-json.ts'
import { redactPdu } from '../matrix/redaction.ts'
import { domainOf } from '../matrix/user-id.ts'
import { type AnsweredEvent, wireOf } from '../storage/event-answers.ts'
import { receivingRooms } from '../storage/receiving-rooms.ts'
import { isServerInRoom } from '../storage/room-servers.ts'
import type { ReadSql } from '../storage/sql.ts'
import { parseStateMapKey, stateAt, stateMapAt } from '../storage/state.ts'

/** Throws M_NOT_FOUND for a room that this server is not in, and M_FORBIDDEN where the other one is not, or is shut out.
 *  https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls */
export async function assertServerInRoom(sql: ReadSql, room_id: RoomId, server: ServerName): Promise<RoomRules> {
  const [rooms, isThere] = await Promise.all([receivingRooms(sql, [room_id]), isServerInRoom(sql, room_id, server)])
  const room = rooms.get(room_id)
  if (!room?.joined) throw new MatrixError('M_NOT_FOUND', 'This server is not in the room')
  if (room.acl !== null && !serverAcl(parseJsonObject(room.acl)).allows(server)) {
    throw new MatrixError('M_FORBIDDEN', 'Your server is banned from the room')
  }
  if (!isThere) throw new MatrixError('M_FORBIDDEN', 'Your server is not in the room')
  const rules = rulesOf(room.room_version)
  if (!rules) throw new Error(`room ${room_id} has version ${room.room_version}, which this server does not know`)
  return rules
}

/** JSON of each event as the server may have it, in their order: redacted where none of its users could see it. The server is
 *  in the room now. */
export async function wiresFor(sql: ReadSql, server: ServerName, events: readonly AnsweredEvent[]): Promise<string[]> {
  const roots = [...new Set(events.map((event) => event.state_root))]
  const visible = new Map<number, boolean>()
  for (const root of roots) visible.set(root, root !== 0 && (await isVisibleIn(sql, root, server)))
  return events.map((event) => {
    // Outliers are here as parts of states, which are given whole.
    const isOfState = event.state_root === 0 && event.state_key !== null
    return isOfState || visible.get(event.state_root) ? wireOf(event) : redactedWire(event)
  })
}

function redactedWire(event: AnsweredEvent): string {
  const rules = rulesOf(event.room_version)
  if (!rules)
    throw new Error(`${event.event_id} is of room version ${event.room_version}, which this server does not know`)
  return JSON.stringify(redactPdu(rules, parseText(wireOf(event)) as JsonObject))
}

/** Whether events of that state are for users of the server. https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility */
async function isVisibleIn(sql: ReadSql, state_root: number, server: ServerName): Promise<boolean> {
  const [nid] = await stateAt(sql, state_root, [['m.room.history_visibility', '']])
  const visibility = nid === undefined ? 'shared' : await visibilityOf(sql, nid)
  // Those who are in the room now joined at some point after the event.
  if (visibility === 'world_readable' || visibility === 'shared') return true
  const members: number[] = []
  for (const [key, member] of await stateMapAt(sql, state_root)) {
    const [type, state_key] = parseStateMapKey(key)
    if (type === 'm.room.member' && domainOf(state_key) === server) members.push(member)
  }
  if (members.length === 0) return false
  const wanted = visibility === 'invited' ? ['join', 'invite'] : ['join']
  const [found] = await sql`
    select 1 from events where event_nid = any(${sql.array(members, 20)}::bigint[])
      and content::jsonb ->> 'membership' = any(${sql.array(wanted, 25)}::text[]) limit 1`
  return found !== undefined
}

async function visibilityOf(sql: ReadSql, event_nid: number): Promise<HistoryVisibility> {
  const [row] = await sql<{ content: string }[]>`select content from events where event_nid = ${event_nid}`
  return historyVisibilityOf(row && parseJsonObject(row.content).history_visibility)
}
