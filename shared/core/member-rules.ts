/** The authorisation rules of m.room.member: who may join, invite, leave, kick, ban and knock.
 *  https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules rule 5 (4 in versions 6 to 11) */
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'
import type { Pdu, StatePdu } from '../matrix/pdu.ts'
import { isSignedByAny, verifyKeyFromBase64 } from '../matrix/signatures.ts'
import { domainOf } from '../matrix/user-id.ts'
import type { AuthContext } from './auth-rules.ts'
import { type AuthVerdict, allow, reject } from './auth-verdict.ts'
import { type AuthState, actionLevel, creatorOf, powerLevelOf } from './power-levels.ts'
import type { RoomRules } from './room-versions.ts'

/** A user's membership in this state; undefined for one who never was in the room. */
export function membershipOf(state: AuthState, user_id: string): string | undefined {
  const membership = state.get('m.room.member', user_id)?.content.membership
  return typeof membership === 'string' ? membership : undefined
}

/** The room's join rule: `invite` when nothing sets it, and the empty string, which lets nobody in, when what sets it is
 *  no string. */
export function joinRuleOf(state: AuthState): string {
  const rule = state.get('m.room.join_rules', '')?.content.join_rule
  if (rule === undefined) return 'invite'
  return typeof rule === 'string' ? rule : ''
}

/** Whether users of this user's server take part in the room. Like deployed servers: only `true` and silence say yes. */
export function isOpenTo(create: Pdu, user_id: string): boolean {
  const federate = create.content['m.federate']
  return federate === undefined || federate === true || domainOf(user_id) === domainOf(create.sender)
}

/** Never throws: a PDU that breaks a rule is an answer, not an accident. */
export function checkMember(rules: RoomRules, pdu: Pdu, state: AuthState, create: Pdu, ctx: AuthContext): AuthVerdict {
  const { membership, join_authorised_via_users_server: authoriser } = pdu.content
  if (!hasStateKey(pdu)) return reject(rules, 'memberShape', '', 'a member event has a state key')
  if (membership === undefined) return reject(rules, 'memberShape', '', 'content has no membership')
  if (!pdu.state_key.includes(':')) return reject(rules, 'memberShape', '', 'the state key is no user id')
  if (rules.restrictedJoins && authoriser !== undefined && ctx.isSignedBy !== undefined) {
    if (typeof authoriser !== 'string' || !ctx.isSignedBy(domainOf(authoriser))) {
      return reject(rules, 'memberAuthorisedSignature', '1', "the authorising user's server has not signed the event")
    }
  }
  if (membership === 'join' && isFirstJoin(rules, pdu, create)) return allow
  // The specification speaks of the sender alone; deployed servers look at both.
  if (!isOpenTo(create, pdu.state_key)) {
    return reject(rules, 'federate', '', 'the room is not federated and the user is on another server')
  }
  switch (membership) {
    case 'join':
      return checkJoin(rules, pdu, state)
    case 'invite':
      return checkInvite(rules, pdu, state)
    case 'leave':
      return checkLeave(rules, pdu, state)
    case 'ban':
      return checkBan(rules, pdu, state)
    case 'knock':
      if (rules.knocking) return checkKnock(rules, pdu, state)
      break
  }
  return reject(rules, 'memberUnknown', '', 'the membership is not one of this room version')
}

function hasStateKey(pdu: Pdu): pdu is StatePdu {
  return pdu.state_key !== undefined
}

function isFirstJoin(rules: RoomRules, pdu: StatePdu, create: Pdu): boolean {
  const isNext = pdu.prev_events.length === 1 && pdu.prev_events[0] === create.event_id
  return isNext && pdu.state_key === creatorOf(rules, create)
}

function checkJoin(rules: RoomRules, pdu: StatePdu, state: AuthState): AuthVerdict {
  if (pdu.sender !== pdu.state_key) return reject(rules, 'joinSender', '', 'nobody can join for another')
  const current = membershipOf(state, pdu.sender)
  if (current === 'ban') return reject(rules, 'joinBanned', '', 'the user is banned')

  const invited = current === 'invite' || current === 'join'
  const joinRule = joinRuleOf(state)
  if (joinRule === 'public') return allow
  if (joinRule === 'invite' || (rules.knocking && joinRule === 'knock')) {
    return invited ? allow : reject(rules, 'joinOtherwise', '', 'the user is not invited')
  }
  if (isRestricted(rules, joinRule)) {
    if (invited) return allow
    const authoriser = pdu.content.join_authorised_via_users_server
    const mayAuthorise =
      typeof authoriser === 'string' &&
      membershipOf(state, authoriser) === 'join' &&
      powerLevelOf(rules, state, authoriser) >= actionLevel(rules, state, 'invite')
    return mayAuthorise
      ? allow
      : reject(rules, 'joinRestricted', '2', 'no member who may invite has authorised the join')
  }
  return reject(rules, 'joinOtherwise', '', `the join rule ${joinRule} lets nobody in`)
}

/** Whether membership of another room may open this one. */
export function isRestricted(rules: RoomRules, joinRule: string): boolean {
  return (
    (rules.restrictedJoins && joinRule === 'restricted') || (rules.knockRestricted && joinRule === 'knock_restricted')
  )
}

/** Whether users may knock. */
export function allowsKnocking(rules: RoomRules, joinRule: string): boolean {
  return (rules.knocking && joinRule === 'knock') || (rules.knockRestricted && joinRule === 'knock_restricted')
}

function checkInvite(rules: RoomRules, pdu: StatePdu, state: AuthState): AuthVerdict {
  const { third_party_invite } = pdu.content
  if (third_party_invite !== undefined) return checkThirdPartyInvite(rules, pdu, state, third_party_invite)
  if (membershipOf(state, pdu.sender) !== 'join') return reject(rules, 'invite', '2', 'the sender is not in the room')
  const target = membershipOf(state, pdu.state_key)
  if (target === 'join') return reject(rules, 'invite', '3', 'the user is already in the room')
  if (target === 'ban') return reject(rules, 'invite', '3', 'the user is banned')
  if (powerLevelOf(rules, state, pdu.sender) >= actionLevel(rules, state, 'invite')) return allow
  return reject(rules, 'invite', '5', 'the sender may not invite')
}

/** Rule 5.4.1: an invite that an identity server's signature speaks for. */
function checkThirdPartyInvite(rules: RoomRules, pdu: StatePdu, state: AuthState, invite: JsonValue): AuthVerdict {
  const refuse = (step: number, reason: string) => reject(rules, 'invite', `1.${step}`, reason)
  if (membershipOf(state, pdu.state_key) === 'ban') return refuse(1, 'the user is banned')
  const signed = isJsonObject(invite) ? invite.signed : undefined
  if (!isJsonObject(signed)) return refuse(2, 'third_party_invite has no signed')
  const { mxid, token } = signed
  if (typeof mxid !== 'string' || typeof token !== 'string') return refuse(3, 'signed has no mxid and token')
  if (mxid !== pdu.state_key) return refuse(4, 'the invite was signed for another user')
  const issued = state.get('m.room.third_party_invite', token)
  if (issued === undefined) return refuse(5, 'the room has no such third-party invite')
  if (issued.sender !== pdu.sender) return refuse(6, 'the invite was made by another user')
  const keys = publicKeysIn(issued.content)
    .map(verifyKeyFromBase64)
    .filter((key) => key !== undefined)
  return isSignedByAny(signed, keys) ? allow : refuse(8, 'no signature holds')
}

/** The keys of an m.room.third_party_invite, in base64. */
function publicKeysIn(content: JsonObject): string[] {
  const several = Array.isArray(content.public_keys) ? content.public_keys : []
  return [content.public_key, ...several.map((entry) => (isJsonObject(entry) ? entry.public_key : undefined))].filter(
    (key) => typeof key === 'string',
  )
}

function checkLeave(rules: RoomRules, pdu: StatePdu, state: AuthState): AuthVerdict {
  const target = membershipOf(state, pdu.state_key)
  if (pdu.sender === pdu.state_key) {
    if (target === 'join' || target === 'invite' || (rules.knocking && target === 'knock')) return allow
    return reject(rules, 'leave', '1', 'the user has nothing to leave')
  }
  if (membershipOf(state, pdu.sender) !== 'join') return reject(rules, 'leave', '2', 'the sender is not in the room')
  const level = powerLevelOf(rules, state, pdu.sender)
  if (target === 'ban' && level < actionLevel(rules, state, 'ban')) {
    return reject(rules, 'leave', '3', 'the sender may not lift a ban')
  }
  if (level >= actionLevel(rules, state, 'kick') && powerLevelOf(rules, state, pdu.state_key) < level) return allow
  return reject(rules, 'leave', '5', 'the sender may not kick this user')
}

function checkBan(rules: RoomRules, pdu: StatePdu, state: AuthState): AuthVerdict {
  if (membershipOf(state, pdu.sender) !== 'join') return reject(rules, 'ban', '1', 'the sender is not in the room')
  const level = powerLevelOf(rules, state, pdu.sender)
  if (level >= actionLevel(rules, state, 'ban') && powerLevelOf(rules, state, pdu.state_key) < level) return allow
  return reject(rules, 'ban', '3', 'the sender may not ban this user')
}

function checkKnock(rules: RoomRules, pdu: StatePdu, state: AuthState): AuthVerdict {
  if (!allowsKnocking(rules, joinRuleOf(state))) return reject(rules, 'knock', '1', 'the room does not allow knocking')
  if (pdu.sender !== pdu.state_key) return reject(rules, 'knock', '2', 'nobody can knock for another')
  const current = membershipOf(state, pdu.sender)
  if (current !== 'ban' && current !== 'invite' && current !== 'join') return allow
  return reject(rules, 'knock', '4', `a user whose membership is ${current} cannot knock`)
}
