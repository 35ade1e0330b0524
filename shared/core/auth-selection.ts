/** Which state an event has to name as its `auth_events`.
 *  https://spec.matrix.org/v1.19/server-server-api/#auth-events-selection */
import { isJsonObject, type JsonObject } from '../matrix/json-value.ts'
import type { RoomRules } from './room-versions.ts'

export interface AuthEventsQuestion {
  readonly type: string
  readonly state_key?: string | undefined
  readonly sender: string
  readonly content: JsonObject
}

/** Keys of the state to be named, where the room has it; no key twice. */
export function authEventKeys(rules: RoomRules, event: AuthEventsQuestion): [type: string, state_key: string][] {
  if (event.type === 'm.room.create') return []
  const keys: [string, string][] = rules.roomIdIsCreateHash ? [] : [['m.room.create', '']]
  keys.push(['m.room.power_levels', ''], ['m.room.member', event.sender])
  if (event.type !== 'm.room.member') return keys

  const { membership, third_party_invite, join_authorised_via_users_server: authoriser } = event.content
  if (event.state_key !== undefined && event.state_key !== event.sender) keys.push(['m.room.member', event.state_key])
  if (membership === 'join' || membership === 'invite' || membership === 'knock') keys.push(['m.room.join_rules', ''])
  if (membership === 'invite' && isJsonObject(third_party_invite) && isJsonObject(third_party_invite.signed)) {
    const { token } = third_party_invite.signed
    if (typeof token === 'string') keys.push(['m.room.third_party_invite', token])
  }
  if (membership === 'join' && rules.restrictedJoins && typeof authoriser === 'string') {
    const named = keys.some(([type, key]) => type === 'm.room.member' && key === authoriser)
    if (!named) keys.push(['m.room.member', authoriser])
  }
  return keys
}
