/** Rooms and events for tests of the authorisation rules: PDUs without hashes, state from a list of them. */
import { authStateOf } from '../../shared/core/auth-rules.ts'
import type { AuthState } from '../../shared/core/power-levels.ts'
import type { RoomRules } from '../../shared/core/room-versions.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import type { Pdu } from '../../shared/matrix/pdu.ts'

export const alice = '@alice:one' as UserId
export const bob = '@bob:one' as UserId
export const carol = '@carol:two' as UserId
export const createId = '$create:one' as EventId

export interface PduParts {
  readonly event_id?: string
  readonly room_id?: string
  readonly type?: string
  readonly state_key?: string
  readonly sender?: string
  readonly content?: JsonObject
  readonly prev_events?: readonly string[]
  readonly auth_events?: readonly string[]
  readonly redacts?: string
  readonly rejected?: boolean
}

/** A message of Alice's in the room, but for what is given. */
export function pdu(rules: RoomRules, parts: PduParts = {}): Pdu {
  return {
    event_id: '$event:one',
    room_id: roomIdFor(rules),
    type: 'm.room.message',
    sender: alice,
    content: {},
    prev_events: ['$previous:one'],
    auth_events: [],
    depth: 1,
    origin_server_ts: 1,
    ...parts,
  } as Pdu
}

/** Alice's create event. */
export function createPdu(rules: RoomRules, content: JsonObject = {}): Pdu {
  return pdu(rules, {
    event_id: createId,
    type: 'm.room.create',
    state_key: '',
    content: { room_version: rules.version, ...(rules.implicitRoomCreator ? {} : { creator: alice }), ...content },
    prev_events: [],
  })
}

export function memberPdu(rules: RoomRules, user: string, membership: string, parts: PduParts = {}): Pdu {
  const { content, ...rest } = parts
  return pdu(rules, {
    event_id: `$member-${user}`,
    type: 'm.room.member',
    state_key: user,
    sender: user,
    content: { membership, ...content },
    ...rest,
  })
}

export function levelsPdu(rules: RoomRules, content: JsonObject, sender: string = alice): Pdu {
  return pdu(rules, { event_id: '$levels', type: 'm.room.power_levels', state_key: '', sender, content })
}

export interface RoomParts {
  readonly create?: JsonObject
  readonly members?: Readonly<Record<string, string>>
  readonly levels?: JsonObject
  readonly joinRule?: string
  readonly more?: readonly Pdu[]
}

/** A room of Alice's. Where she has no level of her own for being its creator, `levels` should give her one. */
export function roomState(rules: RoomRules, parts: RoomParts = {}): AuthState {
  const { create, members = { [alice]: 'join' }, levels, joinRule, more = [] } = parts
  const join_rules = { type: 'm.room.join_rules', state_key: '', event_id: '$join-rules' }
  return authStateOf([
    createPdu(rules, create),
    ...Object.entries(members).map(([user, membership]) => memberPdu(rules, user, membership)),
    ...(levels === undefined ? [] : [levelsPdu(rules, levels)]),
    ...(joinRule === undefined ? [] : [pdu(rules, { ...join_rules, content: { join_rule: joinRule } })]),
    ...more,
  ])
}

function roomIdFor(rules: RoomRules): RoomId {
  return (rules.roomIdIsCreateHash ? `!${createId.slice(1)}` : '!room:one') as RoomId
}
