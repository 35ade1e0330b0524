/** The authorisation rules of all room versions, in the order of the specification.
 *  https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules */
import * as v from 'valibot'
import { ServerName, type UserId } from '../matrix/ids.ts'
import type { Pdu, StatePdu } from '../matrix/pdu.ts'
import { domainOf, isUserId } from '../matrix/user-id.ts'
import { authEventKeys } from './auth-selection.ts'
import { type AuthVerdict, allow, reject } from './auth-verdict.ts'
import { checkMember, isOpenTo, membershipOf } from './member-rules.ts'
import { checkPowerLevels } from './power-level-rules.ts'
import { type AuthState, actionLevel, powerLevelOf, requiredLevel } from './power-levels.ts'
import { type RoomRules, rulesOf } from './room-versions.ts'

export type { AuthVerdict } from './auth-verdict.ts'
export type { AuthState } from './power-levels.ts'

/** What a rule asks that neither the PDU nor the state says. */
export interface AuthContext {
  /** Whether the event is validly signed by this server. Left out where signatures were checked before. */
  isSignedBy?(serverName: string): boolean
}

/** Whether the event is allowed in a room of this state: every rule but the one on `auth_events`, which is
 *  `checkAuthEvents`. Never throws: a PDU that breaks a rule is an answer, not an accident. */
export function checkAuth(rules: RoomRules, pdu: Pdu, state: AuthState, ctx: AuthContext = {}): AuthVerdict {
  if (pdu.type === 'm.room.create') return checkCreate(rules, pdu)

  const create = state.get('m.room.create', '')
  if (rules.roomIdIsCreateHash) {
    if (create === undefined || create.rejected === true || create.event_id.slice(1) !== pdu.room_id.slice(1)) {
      return reject(rules, 'roomIsCreate', '', 'the room id is not that of an accepted create event')
    }
  } else if (create === undefined) {
    return reject(rules, 'authEventsCreate', '', 'the room has no create event')
  }
  if (!isOpenTo(create, pdu.sender)) {
    return reject(rules, 'federate', '', 'the room is not federated and the sender is on another server')
  }
  if (rules.aliasesRule && pdu.type === 'm.room.aliases') return checkAliases(rules, pdu)
  if (pdu.type === 'm.room.member') return checkMember(rules, pdu, state, create, ctx)

  if (membershipOf(state, pdu.sender) !== 'join') {
    return reject(rules, 'senderJoined', '', 'the sender is not in the room')
  }
  const level = powerLevelOf(rules, state, pdu.sender)
  if (pdu.type === 'm.room.third_party_invite') {
    if (level >= actionLevel(rules, state, 'invite')) return allow
    return reject(rules, 'thirdPartyInvite', '1', 'the sender may not invite')
  }
  if (requiredLevel(rules, state, pdu.type, pdu.state_key !== undefined) > level) {
    return reject(rules, 'requiredLevel', '', `the sender's power level is too low to send ${pdu.type}`)
  }
  if (pdu.state_key?.startsWith('@') && !mayUseStateKey(rules, state, pdu.state_key, { sender: pdu.sender, level })) {
    return reject(rules, 'userStateKey', '', "the state key is another user's id")
  }
  if (pdu.type === 'm.room.power_levels') return checkPowerLevels(rules, pdu, state, create, level)
  if (rules.redactionsAreAuthorised && pdu.type === 'm.room.redaction') return checkRedaction(rules, pdu, state, level)
  return allow
}

/** The rule on `auth_events`; `authEvents` are the events that the PDU names, all of them.
 *  https://spec.matrix.org/v1.19/rooms/v11/#authorization-rules rule 2 */
export function checkAuthEvents(rules: RoomRules, pdu: Pdu, authEvents: readonly Pdu[]): AuthVerdict {
  if (pdu.type === 'm.room.create') return allow
  const selected = new Set(authEventKeys(rules, pdu).map(([type, state_key]) => `${type}\0${state_key}`))
  const seen = new Set<string>()
  let hasCreate = false
  for (const event of authEvents) {
    const key = `${event.type}\0${event.state_key}`
    if (event.state_key !== undefined && seen.has(key)) {
      return reject(rules, 'authEventsDuplicate', '', `two auth events are ${event.type} of one state key`)
    }
    seen.add(key)
  }
  for (const event of authEvents) {
    if (event.state_key === undefined || !selected.has(`${event.type}\0${event.state_key}`)) {
      return reject(rules, 'authEventsSelection', '', `an auth event of type ${event.type} has no place there`)
    }
  }
  for (const event of authEvents) {
    if (event.rejected === true) return reject(rules, 'authEventsRejected', '', `${event.event_id} was rejected`)
    if (event.type === 'm.room.create') hasCreate = true
  }
  if (!rules.roomIdIsCreateHash && !hasCreate) {
    return reject(rules, 'authEventsCreate', '', 'the create event is not among the auth events')
  }
  for (const event of authEvents) {
    if (event.room_id !== pdu.room_id)
      return reject(rules, 'authEventsRoom', '', `${event.event_id} is of another room`)
  }
  return allow
}

/** State as the rules ask for it, from a list of events. Of two with one key the last counts. */
export function authStateOf(events: Iterable<Pdu>): AuthState {
  const map = new Map<string, StatePdu>()
  for (const event of events) if (isState(event)) map.set(`${event.type}\0${event.state_key}`, event)
  return { get: (type, state_key) => map.get(`${type}\0${state_key}`) }
}

function isState(pdu: Pdu): pdu is StatePdu {
  return pdu.state_key !== undefined
}

/** Whose state key this is in rooms where state is owned: it is a user's id, or begins with one and an underscore.
 *  Undefined where it is neither. */
export function stateKeyOwner(state_key: string): UserId | undefined {
  const end = state_key.indexOf('_', state_key.indexOf(':') + 1)
  const owner = end < 0 ? state_key : state_key.slice(0, end)
  return isUserId(owner) && v.is(ServerName, domainOf(owner)) ? owner : undefined
}

function mayUseStateKey(
  rules: RoomRules,
  state: AuthState,
  state_key: string,
  { sender, level }: { readonly sender: UserId; readonly level: number },
): boolean {
  if (!rules.ownedState) return state_key === sender
  const owner = stateKeyOwner(state_key)
  return owner !== undefined && (owner === sender || level > powerLevelOf(rules, state, owner))
}

/** Rule 1. */
function checkCreate(rules: RoomRules, pdu: Pdu): AuthVerdict {
  const { content } = pdu
  if (pdu.prev_events.length > 0) return reject(rules, 'createHasPrevEvents', '', 'a create event has no prev_events')
  if (rules.roomIdIsCreateHash) {
    // A room_id on the wire is refused by the event format; here it can only be what the format computed.
    if (pdu.room_id.slice(1) !== pdu.event_id.slice(1)) {
      return reject(rules, 'createHasRoomId', '', "the room id is not the create event's own id")
    }
  } else if (domainOf(pdu.room_id) !== domainOf(pdu.sender)) {
    return reject(rules, 'createRoomIdDomain', '', "the room id is not of the sender's server")
  }
  const version = content.room_version
  if (version !== undefined && !(typeof version === 'string' && rulesOf(version) !== undefined)) {
    return reject(rules, 'createRoomVersion', '', 'the room version is not recognised')
  }
  if (!rules.implicitRoomCreator && content.creator === undefined) {
    return reject(rules, 'createCreator', '', 'content has no creator')
  }
  if (rules.creatorsHaveInfinitePower && content.additional_creators !== undefined) {
    const creators = content.additional_creators
    if (!Array.isArray(creators) || !creators.every((user) => isUserId(user) && v.is(ServerName, domainOf(user)))) {
      return reject(rules, 'createAdditionalCreators', '', 'additional_creators is not an array of user ids')
    }
  }
  return allow
}

/** Rule 4 of room versions 1 to 5. */
function checkAliases(rules: RoomRules, pdu: Pdu): AuthVerdict {
  if (pdu.state_key === undefined) return reject(rules, 'aliases', '1', 'an aliases event has a state key')
  if (domainOf(pdu.sender) !== pdu.state_key)
    return reject(rules, 'aliases', '2', "the state key is not the sender's server")
  return allow
}

/** Rule 11 of room versions 1 and 2. */
function checkRedaction(rules: RoomRules, pdu: Pdu, state: AuthState, level: number): AuthVerdict {
  if (level >= actionLevel(rules, state, 'redact')) return allow
  if (pdu.redacts !== undefined && domainOf(pdu.redacts) === domainOf(pdu.event_id)) return allow
  return reject(rules, 'redaction', '3', 'the sender may not redact')
}
