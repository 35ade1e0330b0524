/** Rooms whose servers did not see each other's events for a while, and used the time to ban, promote, rename and invite.
 *  Events have their right ids; most are allowed where they are sent, some are not, as if the sender's server were broken.
 *  https://spec.matrix.org/v1.19/server-server-api/#room-state-resolution */
import { checkAuth } from '../../shared/core/auth-rules.ts'
import { authEventKeys } from '../../shared/core/auth-selection.ts'
import { type RoomRules, rulesOf } from '../../shared/core/room-versions.ts'
import { resolveState } from '../../shared/core/state-resolution/resolve.ts'
import { type StateMap, stateKey } from '../../shared/core/state-resolution/state-sets.ts'
import { roomIdOfCreate } from '../../shared/matrix/event-format.ts'
import { eventIdOf } from '../../shared/matrix/hashes.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject, JsonValue } from '../../shared/matrix/json-value.ts'
import type { Pdu } from '../../shared/matrix/pdu.ts'
import { signingKeyFromSeed, signJson } from '../../shared/matrix/signatures.ts'
import { type Random, seeded } from '../support/random.ts'

/** A line for `ganglion resolve-state`. */
export interface ForkCase {
  readonly id: string
  readonly room_version: string
  readonly events: Readonly<Record<string, JsonObject>>
  readonly state_sets: readonly (readonly string[])[]
}

export const roomVersions = Array.from({ length: 12 }, (_, i) => String(i + 1))

/** One room, the same for the same seed and number. Its version goes round with the number. */
export function forkCase(seed: number, number: number): ForkCase {
  const version = roomVersions[number % roomVersions.length] as string
  return new ForkWar(version, seeded(Math.imul(seed, 1_000_003) + number)).fight(`${seed}-${number}`)
}

const users = ['@alice:a', '@bob:b', '@carol:c', '@dave:d', '@eve:a', '@frank:b', '@grace:c', '@heidi:d'] as UserId[]
const [creator, second] = users as [UserId, UserId]
const levels = [0, 0, 25, 50, 50, 75, 99, 100]
const joinRules = ['public', 'invite', 'invite', 'private', 'knock', 'restricted', 'knock_restricted']
const identityKey = signingKeyFromSeed('0', Buffer.alloc(32, 7))
const otherKey = signingKeyFromSeed('0', Buffer.alloc(32, 8))
const signedInvites = new Map<string, JsonObject>()

/** The state at one fork's end. */
interface Branch {
  readonly state: StateMap
  /** Some earlier state of this branch, which its next event may rest on. */
  readonly earlier: StateMap
  readonly heads: readonly EventId[]
  readonly depth: number
}

interface Draft {
  readonly type: string
  readonly state_key: string
  readonly sender: UserId
  readonly content: JsonObject
}

class ForkWar {
  readonly #rules: RoomRules
  readonly #random: Random
  readonly #pdus = new Map<EventId, Pdu>()
  readonly #wires: Record<string, JsonObject> = {}
  readonly #branches: Branch[] = []
  #room_id: RoomId = '!room:a' as RoomId
  #clock = 1000

  constructor(version: string, random: Random) {
    const rules = rulesOf(version)
    if (!rules) throw new Error(`no room version ${version}`)
    this.#rules = rules
    this.#random = random
  }

  fight(id: string): ForkCase {
    const random = this.#random
    this.#begin()
    const forks = 2 + random.below(3)
    for (let i = 1; i < forks; i++) this.#branches.push(this.#branches[0] as Branch)
    const steps = 12 + random.below(36)
    for (let step = 0; step < steps; step++) this.#step()
    // Until there is something to resolve.
    for (let more = 0; !this.#isForked() && more < 50; more++) this.#step()
    const state_sets = this.#branches.map(({ state }) => {
      const ids = [...state.values()]
      // A server that lacks a piece of state.
      if (this.#chance(0.03)) ids.splice(random.below(ids.length), 1)
      return ids
    })
    return { id, room_version: this.#rules.version, events: this.#wires, state_sets }
  }

  #begin(): void {
    const rules = this.#rules
    this.#branches.push({ state: new Map(), earlier: new Map(), heads: [], depth: 0 })
    const content: Record<string, JsonValue> = { room_version: rules.version }
    if (!rules.implicitRoomCreator) content.creator = creator
    if (this.#chance(0.05)) content['m.federate'] = this.#random.pick([true, false])
    if (rules.creatorsHaveInfinitePower && this.#chance(0.5)) content.additional_creators = [second]
    this.#send(0, { type: 'm.room.create', state_key: '', sender: creator, content }, true)
    this.#send(0, member(creator, creator, 'join'), true)
    if (this.#chance(0.9)) {
      const given: Record<string, number> = { [users[2] as string]: 50 }
      if (!rules.creatorsHaveInfinitePower) given[creator] = 100
      if (content.additional_creators === undefined && this.#chance(0.7)) given[second] = this.#random.pick([50, 100])
      this.#send(0, { type: 'm.room.power_levels', state_key: '', sender: creator, content: { users: given } })
    }
    if (this.#chance(0.9)) this.#send(0, this.#joinRules(creator, 'public'))
    for (const user of users) if (this.#chance(0.6)) this.#send(0, member(user, user, 'join'))
  }

  #isForked(): boolean {
    const [first, ...rest] = this.#branches
    return rest.some(
      ({ state }) => state.size !== first?.state.size || [...state].some(([key, id]) => first.state.get(key) !== id),
    )
  }

  #step(): void {
    const random = this.#random
    const at = random.below(this.#branches.length)
    if (this.#chance(0.06)) this.#merge(at, random.below(this.#branches.length))
    else if (this.#chance(0.03) && this.#branches.length < 6) this.#branches.push(this.#branches[at] as Branch)
    else this.#send(at, this.#draft(at))
  }

  #draft(at: number): Draft {
    const random = this.#random
    const sender = this.#chance(0.5) ? random.pick([creator, second]) : random.pick(users)
    const target = random.pick(users)
    const kind = random.below(100)
    if (kind < 14) return member(target, sender, 'ban')
    if (kind < 22) return member(target, sender, 'leave')
    if (kind < 32) return this.#join(target)
    if (kind < 38) return member(target, sender, 'invite')
    if (kind < 41) return member(target, target, 'knock')
    if (kind < 48) return this.#thirdPartyInvite(at, sender, target)
    if (kind < 66) return this.#powerLevels(at, sender, target)
    if (kind < 76) return this.#joinRules(sender, random.pick(joinRules))
    if (kind < 88) return this.#setting(sender, random.pick(['topic', 'name', 'history_visibility']), '')
    if (kind < 91) return this.#setting(sender, 'aliases', random.pick(['a', 'b', 'c', 'd', '']))
    if (kind < 94) return this.#setting(sender, 'settings', random.pick([sender, target, 'plain', `${sender}_own`]))
    if (kind < 97) return this.#setting(sender, random.pick(['power_levels', 'join_rules']), 'beside')
    return this.#odd(sender, target)
  }

  #join(user: UserId): Draft {
    const join = member(user, user, 'join')
    if (!this.#chance(0.5)) return join
    return { ...join, content: { ...join.content, join_authorised_via_users_server: this.#random.pick(users) } }
  }

  #joinRules(sender: UserId, join_rule: string): Draft {
    const allow = join_rule.endsWith('restricted')
      ? { allow: [{ type: 'm.room_membership', room_id: '!other:a' }] }
      : {}
    return { type: 'm.room.join_rules', state_key: '', sender, content: { join_rule, ...allow } }
  }

  #setting(sender: UserId, name: string, state_key: string): Draft {
    return { type: `m.room.${name}`, state_key, sender, content: { [name]: String(this.#random.below(1000)) } }
  }

  /** The token and its use, by the one who issued it or by another, with the right key or another. */
  #thirdPartyInvite(at: number, sender: UserId, target: UserId): Draft {
    const token = this.#random.pick(['first', 'second'])
    const type = 'm.room.third_party_invite'
    const issued = this.#branches[at]?.state.get(stateKey(type, token))
    if (issued === undefined || this.#chance(0.2)) {
      const key = {
        public_key: this.#chance(0.9) ? identityKey?.publicKeyBase64 : otherKey?.publicKeyBase64,
      } as JsonObject
      const content = this.#chance(0.5) ? { display_name: 'h', ...key } : { display_name: 'h', public_keys: [key] }
      return { type, state_key: token, sender, content }
    }
    const inviter = this.#chance(0.8) ? (this.#pdus.get(issued)?.sender ?? sender) : sender
    const invited = this.#chance(0.9) ? target : this.#random.pick(users)
    const content = {
      membership: 'invite',
      third_party_invite: { display_name: 'h', signed: signedInvite(invited, token) },
    }
    return { type: 'm.room.member', state_key: target, sender: inviter, content }
  }

  #powerLevels(at: number, sender: UserId, target: UserId): Draft {
    const random = this.#random
    const state = this.#branches[at]?.state
    const held = state?.get(stateKey('m.room.power_levels', ''))
    const content: Record<string, JsonValue> = { ...(held && this.#pdus.get(held)?.content) }
    const given: Record<string, JsonValue> = { ...(content.users as JsonObject | undefined) }
    switch (random.below(8)) {
      case 0:
        delete given[target]
        break
      case 1:
        content[random.pick(['ban', 'kick', 'invite', 'state_default', 'events_default', 'users_default', 'redact'])] =
          random.pick(levels)
        break
      case 2:
        content.events = { ...(content.events as JsonObject | undefined), [this.#eventType()]: random.pick(levels) }
        break
      case 3:
        content.notifications = { room: random.pick(levels) }
        break
      case 4:
        given[target] = this.#oddLevel()
        break
      default:
        given[target] = random.pick(levels)
    }
    content.users = given
    return { type: 'm.room.power_levels', state_key: '', sender, content }
  }

  #eventType(): string {
    return `m.room.${this.#random.pick(['topic', 'name', 'join_rules', 'power_levels', 'member', 'third_party_invite'])}`
  }

  /** What versions before 10 read, in part; later ones refuse it. */
  #oddLevel(): JsonValue {
    return this.#random.pick<JsonValue>(['50', ' 75 ', '-5', 'x', '', -1, 9007199254740991])
  }

  #odd(sender: UserId, target: UserId): Draft {
    const drafts: Draft[] = [
      { ...member(target, sender, 'join') },
      { ...member(target, sender, 'vanish') },
      { type: 'm.room.join_rules', state_key: '', sender, content: {} },
      { type: 'm.room.power_levels', state_key: '', sender, content: {} },
      { type: 'm.room.power_levels', state_key: '', sender, content: { users: { nobody: 50 } } },
      { type: 'm.room.power_levels', state_key: '', sender, content: { users: { [creator]: 100 } } },
    ]
    return this.#random.pick(drafts)
  }

  #merge(at: number, other: number): void {
    const [one, two] = [this.#branches[at], this.#branches[other]]
    if (!one || !two || one === two) return
    const state = resolveState(this.#rules, [one.state, two.state], (id) => this.#pdus.get(id))
    const heads = [...new Set([...one.heads, ...two.heads])]
    this.#branches[at] = { state, earlier: one.earlier, heads, depth: Math.max(one.depth, two.depth) }
  }

  #send(at: number, draft: Draft, must = false): void {
    const branch = this.#branches[at] as Branch
    // Auth events need not be the newest that the sender could know.
    const rests = !must && this.#chance(0.1) ? branch.earlier : branch.state
    const auth_events = authEventKeys(this.#rules, draft).flatMap(([type, key]) => rests.get(stateKey(type, key)) ?? [])
    const { event, wire } = this.#event(branch, draft, auth_events)
    const held = (type: string, key: string) => {
      const id = branch.state.get(stateKey(type, key))
      return id === undefined ? undefined : this.#pdus.get(id)
    }
    const { allowed } = checkAuth(this.#rules, event, { get: held })
    if (must && !allowed) throw new Error(`${draft.type} is not allowed at a room's beginning`)
    if (!allowed && (isRefusedEverywhere(this.#rules, draft) || !this.#chance(0.08))) return
    this.#pdus.set(event.event_id, event)
    this.#wires[event.event_id] = wire
    this.#branches[at] = {
      state: new Map(branch.state).set(stateKey(draft.type, draft.state_key), event.event_id),
      earlier: this.#chance(0.3) ? branch.state : branch.earlier.size === 0 ? branch.state : branch.earlier,
      heads: [event.event_id],
      depth: event.depth,
    }
  }

  #event(branch: Branch, draft: Draft, auth_events: readonly EventId[]): { event: Pdu; wire: JsonObject } {
    const rules = this.#rules
    // Clocks go wrong, and many events have the same time and depth.
    this.#clock += this.#random.below(3)
    const origin_server_ts = this.#chance(0.2) ? 900 + this.#random.below(200) : this.#clock
    const depth = branch.depth + 1
    const isCreate = draft.type === 'm.room.create' && draft.state_key === ''
    const references = (ids: readonly EventId[]): JsonValue =>
      rules.eventReferencesHaveHashes ? ids.map((id) => [id, { sha256: 'x' }]) : [...ids]
    const given = rules.eventIdFormat === 'given' ? `$${this.#random.below(2 ** 30).toString(36)}:a` : undefined
    const wire: JsonObject = {
      ...draft,
      ...(given === undefined ? {} : { event_id: given }),
      ...(rules.roomIdIsCreateHash && isCreate ? {} : { room_id: this.#room_id }),
      auth_events: references(auth_events),
      prev_events: references(branch.heads),
      depth,
      origin_server_ts,
      // So that no two events are one.
      hashes: { sha256: String(this.#pdus.size) },
      signatures: {},
    }
    const event_id = eventIdOf(rules, wire) as EventId
    if (rules.roomIdIsCreateHash && isCreate) this.#room_id = roomIdOfCreate(event_id)
    const ids = { event_id, room_id: this.#room_id, auth_events, prev_events: branch.heads }
    return { event: { ...draft, ...ids, depth, origin_server_ts }, wire }
  }

  #chance(probability: number): boolean {
    return this.#random.next() < probability
  }
}

/** Levels that can't be read, or that a creator would have, are refused whatever the state is: no server ever resolves
 *  such an event. */
function isRefusedEverywhere(rules: RoomRules, { type, content }: Draft): boolean {
  if (type !== 'm.room.power_levels') return false
  const given = Object.entries((content.users ?? {}) as JsonObject)
  return given.some(
    ([user, level]) =>
      !user.startsWith('@') ||
      !Number.isSafeInteger(level) ||
      (rules.creatorsHaveInfinitePower && (user === creator || user === second)),
  )
}

function member(target: UserId, sender: UserId, membership: string): Draft {
  return { type: 'm.room.member', state_key: target, sender, content: { membership } }
}

function signedInvite(mxid: string, token: string): JsonObject {
  const known = signedInvites.get(`${mxid} ${token}`)
  if (known) return known
  if (!identityKey) throw new Error('no key')
  const signed = signJson({ mxid, token }, 'identity', identityKey)
  signedInvites.set(`${mxid} ${token}`, signed)
  return signed
}
