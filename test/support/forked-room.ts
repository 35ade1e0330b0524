/** Rooms whose history forks: made of valid events, for tests of state resolution. */
import { checkAuth } from '../../shared/core/auth-rules.ts'
import { authEventKeys } from '../../shared/core/auth-selection.ts'
import type { RoomRules } from '../../shared/core/room-versions.ts'
import { resolveState } from '../../shared/core/state-resolution/resolve.ts'
import { type StateMap, stateKey } from '../../shared/core/state-resolution/state-sets.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import type { Pdu } from '../../shared/matrix/pdu.ts'

export const users = ['@alice:a', '@bob:b', '@carol:c', '@dave:d', '@eve:e'] as UserId[]
const creator = users[0] as UserId

/** What one user tries on one branch; what the rules forbid there does not happen. */
export interface Step {
  readonly branch: number
  readonly user: number
  readonly target: number
  readonly act:
    | 'join'
    | 'leave'
    | 'invite'
    | 'ban'
    | 'kick'
    | 'open'
    | 'close'
    | 'promote'
    | 'demote'
    | 'raise'
    | 'topic'
    | 'name'
    | 'fork'
    | 'merge'
  readonly ts: number
}

export class ForkedRoom {
  readonly rules: RoomRules
  readonly events = new Map<EventId, Pdu>()
  /** State at each fork's end. */
  readonly branches: StateMap[] = [new Map()]
  readonly room_id: RoomId
  #count = 0

  constructor(rules: RoomRules) {
    this.rules = rules
    this.room_id = (rules.roomIdIsCreateHash ? '!create' : '!room:a') as RoomId
    const create = { room_version: rules.version, ...(rules.implicitRoomCreator ? {} : { creator }) }
    this.send(0, { type: 'm.room.create', state_key: '', sender: creator, content: create, id: '$create' })
    this.send(0, { type: 'm.room.member', state_key: creator, sender: creator, content: { membership: 'join' } })
    const levels = { users: rules.creatorsHaveInfinitePower ? { '@bob:b': 50 } : { [creator]: 100, '@bob:b': 50 } }
    this.send(0, { type: 'm.room.power_levels', state_key: '', sender: creator, content: levels })
    this.send(0, { type: 'm.room.join_rules', state_key: '', sender: creator, content: { join_rule: 'public' } })
    if (this.events.size !== 4) throw new Error('the room was not made')
  }

  readonly event = (id: EventId): Pdu | undefined => this.events.get(id)

  /** The event's id if it was allowed on that branch. */
  send(
    branch: number,
    draft: { type: string; state_key: string; sender: UserId; content: JsonObject; ts?: number; id?: string },
  ): EventId | undefined {
    const state = this.branches[branch] as StateMap
    const auth = authEventKeys(this.rules, draft).flatMap(([type, key]) => state.get(stateKey(type, key)) ?? [])
    this.#count++
    const pdu: Pdu = {
      event_id: (draft.id ?? `$${hashed(this.#count)}`) as EventId,
      room_id: this.room_id,
      type: draft.type,
      state_key: draft.state_key,
      sender: draft.sender,
      content: draft.content,
      // Who joins right after the create event is its creator; nothing else looks at what went before.
      prev_events: state.size === 1 ? [...state.values()] : [],
      auth_events: auth,
      depth: this.#count,
      origin_server_ts: draft.ts ?? this.#count,
    }
    const held = (type: string, key: string) => {
      const id = state.get(stateKey(type, key))
      return id && this.events.get(id)
    }
    if (!checkAuth(this.rules, pdu, { get: held }).allowed) return undefined
    this.events.set(pdu.event_id, pdu)
    this.branches[branch] = new Map(state).set(stateKey(pdu.type, draft.state_key), pdu.event_id)
    return pdu.event_id
  }

  run(step: Step): void {
    const branch = step.branch % this.branches.length
    const sender = users[step.user % users.length] as UserId
    const target = users[step.target % users.length] as UserId
    const send = (type: string, state_key: string, content: JsonObject) =>
      this.send(branch, { type, state_key, sender, content, ts: step.ts })
    switch (step.act) {
      case 'join':
      case 'leave':
        send('m.room.member', sender, { membership: step.act })
        break
      case 'invite':
      case 'ban':
        send('m.room.member', target, { membership: step.act })
        break
      case 'kick':
        if (target !== sender) send('m.room.member', target, { membership: 'leave' })
        break
      case 'open':
      case 'close':
        send('m.room.join_rules', '', { join_rule: step.act === 'open' ? 'public' : 'invite' })
        break
      case 'promote':
      case 'demote':
        send('m.room.power_levels', '', this.#levelsWith(branch, { [target]: step.act === 'promote' ? 50 : 0 }))
        break
      case 'raise':
        send('m.room.power_levels', '', { ...this.#levelsWith(branch, {}), state_default: 50 + (step.ts % 3) * 25 })
        break
      case 'topic':
      case 'name':
        send(`m.room.${step.act}`, '', { [step.act]: String(step.ts) })
        break
      case 'fork':
        if (this.branches.length < 5) this.branches.push(this.branches[branch] as StateMap)
        break
      case 'merge': {
        const other = step.target % this.branches.length
        const sets = [this.branches[branch] as StateMap, this.branches[other] as StateMap]
        this.branches[branch] = resolveState(this.rules, sets, this.event)
        break
      }
    }
  }

  #levelsWith(branch: number, change: Record<string, number>): JsonObject {
    const id = this.branches[branch]?.get(stateKey('m.room.power_levels', ''))
    const content = (id && this.events.get(id)?.content) ?? {}
    return { ...content, users: { ...(content.users as Record<string, number>), ...change } }
  }
}

/** Ids in no particular order. */
function hashed(n: number): string {
  return ((n * 2654435761) >>> 0).toString(36).padStart(7, '0')
}
