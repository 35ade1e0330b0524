/** What a client may not ask of the events it sends, beyond the authorisation rules: those hold for events of any server,
 *  these keep our own users' events well-formed. */

import * as v from 'valibot'
import { stateKeyOwner } from '../../../../shared/core/auth-rules.ts'
import { isCreator } from '../../../../shared/core/power-levels.ts'
import { serverAcl } from '../../../../shared/core/server-acl.ts'
import { RoomAlias, type ServerName } from '../../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { isUserId } from '../../../../shared/matrix/user-id.ts'
import { type MainSql, pgText } from '../../../../shared/storage/sql.ts'
import { type Relation, relationOf } from '../../rooms/event-row.ts'
import { ensureLoaded } from '../../rooms/load-room.ts'
import { type Room, statePdu } from '../../rooms/room.ts'

interface ClientEvent {
  readonly type: string
  readonly state_key?: string | undefined
  readonly sender: string
  readonly content: JsonObject
}

/** Throws where the content is wrong for its type. */
export async function checkContent(
  { sql, serverName }: { readonly sql: MainSql; readonly serverName: ServerName },
  room: Room,
  event: ClientEvent,
): Promise<void> {
  const { type, state_key, content } = event
  if (type === 'm.room.create') {
    throw new MatrixError('M_BAD_STATE', 'A room is created once, and its create event does not change')
  }
  if (state_key === undefined) return
  if (type === 'm.room.power_levels' && state_key === '') checkPowerLevels(room, content)
  else if (type === 'm.room.canonical_alias' && state_key === '') await checkCanonicalAlias(sql, room, content)
  else if (type === 'm.room.member') checkMember(state_key, content)
  else if (type === 'm.room.server_acl' && state_key === '') checkServerAcl(serverName, content)
  else if (room.rules.ownedState && state_key.startsWith('@') && stateKeyOwner(state_key) === undefined) {
    throw new MatrixError('M_BAD_JSON', 'A state key with an @ is a user id, or begins with one and an underscore')
  }
}

/** https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels */
export function checkPowerLevels(room: Room, content: JsonObject): void {
  const { rules } = room
  const { users } = content
  if (users !== undefined && !isJsonObject(users)) throw bad('users must be an object')
  for (const key of ['events', 'notifications'] as const) {
    const levels = content[key]
    if (levels === undefined) continue
    if (!isJsonObject(levels)) throw bad(`${key} must be an object`)
    if (rules.integerPowerLevels) for (const value of Object.values(levels)) checkLevel(key, value)
  }
  if (rules.integerPowerLevels) {
    for (const key of [
      'ban',
      'events_default',
      'invite',
      'kick',
      'redact',
      'state_default',
      'users_default',
    ] as const) {
      const value = content[key]
      if (value !== undefined) checkLevel(key, value)
    }
  }
  const create = rules.creatorsHaveInfinitePower ? statePdu(room, 'm.room.create', '') : undefined
  for (const [user, level] of Object.entries(users ?? {})) {
    if (!isUserId(user)) throw bad(`users: ${JSON.stringify(user)} is not a user id`)
    if (rules.integerPowerLevels) checkLevel('users', level)
    if (create && isCreator(rules, create, user)) {
      throw bad(`users: ${user} created the room, which no level can outrank, and cannot be listed`)
    }
  }
}

function checkLevel(key: string, value: JsonValue): void {
  if (!Number.isSafeInteger(value)) throw bad(`${key}: a power level must be an integer`)
}

function bad(message: string): MatrixError {
  return new MatrixError('M_BAD_JSON', `m.room.power_levels: ${message}`)
}

/** One that shuts its own server out would make the room useless to whoever sent it.
 *  https://spec.matrix.org/v1.19/client-server-api/#mroomserver_acl */
function checkServerAcl(serverName: ServerName, content: JsonObject): void {
  for (const key of ['allow', 'deny'] as const) {
    const patterns = content[key]
    if (patterns !== undefined && !(Array.isArray(patterns) && patterns.every((one) => typeof one === 'string'))) {
      throw new MatrixError('M_BAD_JSON', `m.room.server_acl: ${key} must be a list of patterns`)
    }
  }
  if (content.allow_ip_literals !== undefined && typeof content.allow_ip_literals !== 'boolean') {
    throw new MatrixError('M_BAD_JSON', 'm.room.server_acl: allow_ip_literals must be true or false')
  }
  if (!serverAcl(content).allows(serverName)) {
    throw new MatrixError('M_INVALID_PARAM', `m.room.server_acl would shut out ${serverName}, the server it comes from`)
  }
}

const memberships = ['join', 'invite', 'leave', 'ban', 'knock']

function checkMember(state_key: string, content: JsonObject): void {
  if (!isUserId(state_key)) throw new MatrixError('M_BAD_JSON', 'The state key of m.room.member must be a user id')
  if (typeof content.membership !== 'string' || !memberships.includes(content.membership)) {
    throw new MatrixError('M_BAD_JSON', `membership must be one of ${memberships.join(', ')}`)
  }
}

/** Aliases that are new in the event must be there and point to the room.
 *  https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey */
async function checkCanonicalAlias(sql: MainSql, room: Room, content: JsonObject): Promise<void> {
  const wanted = aliasesIn(content, true)
  if (wanted.length === 0) return
  await ensureLoaded(sql, room, [['m.room.canonical_alias', '']])
  const before = new Set(aliasesIn(statePdu(room, 'm.room.canonical_alias', '')?.content ?? {}, false))
  const fresh = wanted.filter((alias) => !before.has(alias))
  if (fresh.length === 0) return
  const found = await sql<{ alias: string }[]>`
    select alias from room_aliases where alias in ${sql(fresh.map(pgText))} and room_nid = ${room.room_nid}`
  const known = new Set(found.map((row) => row.alias))
  const wrong = fresh.find((alias) => !known.has(pgText(alias)))
  if (wrong !== undefined) throw new MatrixError('M_BAD_ALIAS', `The alias ${wrong} does not point to this room`)
}

/** `alias` and `alt_aliases`; a wrong form throws M_INVALID_PARAM where `strict` is set, and is passed over elsewhere. */
export function aliasesIn(content: JsonObject, strict: boolean): string[] {
  const { alias, alt_aliases } = content
  const values: JsonValue[] = []
  if (alias !== undefined && alias !== null && alias !== '') values.push(alias)
  if (Array.isArray(alt_aliases)) values.push(...alt_aliases)
  else if (alt_aliases !== undefined && alt_aliases !== null && strict) {
    throw new MatrixError('M_INVALID_PARAM', 'alt_aliases must be a list')
  }
  return values.filter((value): value is string => {
    if (v.is(RoomAlias, value)) return true
    if (strict) throw new MatrixError('M_INVALID_PARAM', `${JSON.stringify(value)} is not a room alias`)
    return false
  })
}

/** One reaction a key, event and user. https://spec.matrix.org/v1.19/client-server-api/#avoiding-duplicate-annotations
 *  Returns the reaction's name among those under way in `room.reactions`. */
export async function checkAnnotation(sql: MainSql, room: Room, event: ClientEvent): Promise<string | undefined> {
  if (event.state_key !== undefined) return undefined
  const relation = relationOf(event.content)
  if (relation?.rel_type !== 'm.annotation' || relation.key === undefined) return undefined
  const name = JSON.stringify([relation.event_id, event.type, event.sender, relation.key])
  if (room.reactions.has(name) || (await isAnnotated(sql, room, event, relation))) {
    throw new MatrixError('M_DUPLICATE_ANNOTATION', 'You have reacted to this event in the same way before')
  }
  return name
}

async function isAnnotated(sql: MainSql, room: Room, event: ClientEvent, relation: Relation): Promise<boolean> {
  const rows = await sql<{ content: string }[]>`
    select content from events
    where relates_to = ${relation.event_id} and rel_type = 'm.annotation' and sender = ${event.sender}
      and type = ${pgText(event.type)} and room_nid = ${room.room_nid} and redacted_by_nid is null and flags = 0`
  return rows.some((row) => relationOf(JSON.parse(row.content) as JsonObject)?.key === relation.key)
}
