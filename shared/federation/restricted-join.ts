/** Joins to restricted rooms that a server vouches for. https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms */
import type { RoomRules } from '../core/room-versions.ts'
import type { ServerName } from '../matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../matrix/json-value.ts'
import { domainOf } from '../matrix/user-id.ts'

/** Whether the event is a join that a user of this server is said to have let in. */
export function isResponsible(rules: RoomRules, { type, content }: JsonObject, server: ServerName): boolean {
  if (!rules.restrictedJoins || type !== 'm.room.member' || !isJsonObject(content)) return false
  const by = content.join_authorised_via_users_server
  return content.membership === 'join' && typeof by === 'string' && domainOf(by) === server
}
