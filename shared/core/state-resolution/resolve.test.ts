import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { ForkedRoom, type Step, users } from '../../../test/support/forked-room.ts'
import type { EventId, UserId } from '../../matrix/ids.ts'
import type { Pdu } from '../../matrix/pdu.ts'
import { checkAuth } from '../auth-rules.ts'
import { powerLevelOf } from '../power-levels.ts'
import { type RoomRules, rulesOf } from '../room-versions.ts'
import { EventStore, MissingEventError } from './event-store.ts'
import { isPowerEvent } from './power-order.ts'
import { conflictOf, conflictResolution, resolveState } from './resolve.ts'
import { type StateMap, stateKey } from './state-sets.ts'

const versions = ['1', '2', '6', '11', '12'].map((version) => rulesOf(version) as RoomRules)
const [alice, bob, carol] = users as [UserId, UserId, UserId]

const act = fc.constantFrom<Step['act'][]>(
  ...([
    'join',
    'join',
    'leave',
    'invite',
    'ban',
    'kick',
    'open',
    'close',
    'promote',
    'demote',
    'raise',
    'topic',
  ] as const),
  ...(['name', 'fork', 'fork', 'merge'] as const),
)
const step: fc.Arbitrary<Step> = fc.record({
  branch: fc.nat(4),
  user: fc.nat(4),
  target: fc.nat(4),
  act,
  ts: fc.nat(20),
})
/** A room after a random history, with at least one fork. */
function forks(rules: RoomRules): fc.Arbitrary<ForkedRoom> {
  return fc.array(step, { minLength: 10, maxLength: 80 }).map((steps) => {
    const room = new ForkedRoom(rules)
    for (const user of [1, 2, 3]) room.run({ branch: 0, user, target: 0, act: 'join', ts: 5 })
    room.run({ branch: 0, user: 0, target: 0, act: 'fork', ts: 0 })
    for (const one of steps) room.run(one)
    return room
  })
}
const entries = (state: StateMap) => [...state].sort(([x], [y]) => (x < y ? -1 : 1))
const runs = { numRuns: 150 }

describe.each(versions)('state resolution of room version $version', (rules) => {
  const resolve = (room: ForkedRoom, sets: readonly StateMap[]) => entries(resolveState(rules, sets, room.event))

  test('the order of the forks does not matter', () =>
    fc.assert(
      fc.property(forks(rules), fc.infiniteStream(fc.nat()), (room, salt) => {
        const expected = resolve(room, room.branches)
        const shuffled = room.branches.map((set) => ({ set, at: salt.next().value ?? 0 })).sort((x, y) => x.at - y.at)
        expect(resolve(room, room.branches.toReversed())).toEqual(expected)
        expect(
          resolve(
            room,
            shuffled.map(({ set }) => set),
          ),
        ).toEqual(expected)
      }),
      runs,
    ))

  test('nor does the order of the events in a set, nor that a fork is given twice', () =>
    fc.assert(
      fc.property(forks(rules), (room) => {
        const expected = resolve(room, room.branches)
        expect(
          resolve(
            room,
            room.branches.map((set) => new Map([...set].reverse())),
          ),
        ).toEqual(expected)
        expect(resolve(room, [...room.branches, ...room.branches])).toEqual(expected)
      }),
      runs,
    ))

  test('state that nobody contradicts stays as it is', () =>
    fc.assert(
      fc.property(forks(rules), (room) => {
        const resolved = resolveState(rules, room.branches, room.event)
        expect(resolve(room, [resolved])).toEqual(entries(resolved))
        expect(resolve(room, [resolved, resolved, resolved])).toEqual(entries(resolved))
        for (const [key, id] of conflictOf(rules, room.branches).agreed) expect(resolved.get(key)).toBe(id)
      }),
      runs,
    ))

  test('only what is asked for is needed, and an index of auth chains comes to the same', () =>
    fc.assert(
      fc.property(forks(rules), (room) => {
        const expected = resolve(room, room.branches)
        const conflict = conflictOf(rules, room.branches)
        if (conflict.conflicted.size === 0) return
        const difference = naiveAuthDifference(room)
        const subgraph = naiveSubgraph(room, [...conflict.conflicted.values()].flat())
        const store = new EventStore(rules)
        const work = conflictResolution(store, { sets: [], conflict }, { difference, subgraph })
        let step = work.next()
        for (; !step.done; step = work.next()) for (const id of step.value) store.add(id, get(room, id))
        expect(entries(new Map([...conflict.agreed, ...step.value]))).toEqual(expected)
      }),
      runs,
    ))

  if (rules.stateResolution !== 'v1') {
    test('agrees with the specification, followed to the letter', () =>
      fc.assert(
        fc.property(forks(rules), (room) => {
          expect(resolve(room, room.branches)).toEqual(entries(naiveResolution(room)))
        }),
        { numRuns: 400 },
      ))
  }
})

describe('rooms/v2 state resolution: what it is for', () => {
  const setUp = (version = '11') => {
    const room = new ForkedRoom(rulesOf(version) as RoomRules)
    for (const user of [bob, carol]) {
      room.send(0, { type: 'm.room.member', state_key: user, sender: user, content: { membership: 'join' } })
    }
    room.branches.push(room.branches[0] as StateMap)
    const resolved = () => resolveState(room.rules, room.branches, room.event)
    const member = (branch: number, sender: UserId, target: UserId, membership: string, ts: number) =>
      room.send(branch, { type: 'm.room.member', state_key: target, sender, content: { membership }, ts })
    const set = (branch: number, sender: UserId, name: string, content: Pdu['content'], ts: number) =>
      room.send(branch, { type: `m.room.${name}`, state_key: '', sender, content, ts })
    return { room, resolved, member, set }
  }
  const levels = (rules: RoomRules, users: Record<string, number>) =>
    rules.creatorsHaveInfinitePower ? { users } : { users: { [alice]: 100, ...users } }

  test.each(['2', '6', '11', '12'])('v%s: who is banned can do nothing on a fork that does not know it', (version) => {
    const { resolved, member, set } = setUp(version)
    const ban = member(0, alice, bob, 'ban', 50)
    set(1, bob, 'topic', { topic: 'mine' }, 10)
    set(1, bob, 'join_rules', { join_rule: 'invite' }, 10)
    const state = resolved()
    expect(state.get(stateKey('m.room.member', bob))).toBe(ban)
    expect(state.has(stateKey('m.room.topic', ''))).toBe(false)
  })

  test.each(['2', '6', '11', '12'])(
    'v%s: of two admins the more powerful decides, whatever the clocks say',
    (version) => {
      const { room, resolved, set } = setUp(version)
      const demotion = set(0, alice, 'power_levels', levels(room.rules, { [bob]: 0 }), 100)
      set(1, bob, 'power_levels', levels(room.rules, { [bob]: 50, [carol]: 50 }), 1)
      expect(resolved().get(stateKey('m.room.power_levels', ''))).toBe(demotion)
    },
  )

  test.each(['2', '6', '11', '12'])('v%s: a join under rules that were closed beside it does not hold', (version) => {
    const room = new ForkedRoom(rulesOf(version) as RoomRules)
    room.branches.push(room.branches[0] as StateMap)
    const join_rule = { join_rule: 'invite' }
    room.send(0, { type: 'm.room.join_rules', state_key: '', sender: alice, content: join_rule, ts: 100 })
    room.send(1, { type: 'm.room.member', state_key: carol, sender: carol, content: { membership: 'join' }, ts: 1 })
    const state = resolveState(room.rules, room.branches, room.event)
    expect(state.has(stateKey('m.room.member', carol))).toBe(false)
  })

  test('v12: agreed power levels are no mainline, so time alone orders the rest', () => {
    const outcome = (version: string) => {
      const { room, resolved, set } = setUp(version)
      const later = set(0, alice, 'topic', { topic: 'under the old levels' }, 90)
      // Both forks learn of the same new levels; the second sets its topic after that, by a slow clock.
      const content = levels(room.rules, { [bob]: 50, [carol]: 50 })
      const id = set(1, alice, 'power_levels', content, 50) as EventId
      room.branches[0] = new Map(room.branches[0]).set(stateKey('m.room.power_levels', ''), id)
      const earlier = set(1, alice, 'topic', { topic: 'under the new levels' }, 80)
      const topic = resolved().get(stateKey('m.room.topic', ''))
      return topic === later ? 'later' : topic === earlier ? 'on the newer levels' : 'none'
    }
    expect(outcome('11')).toBe('on the newer levels')
    expect(outcome('12')).toBe('later')
  })

  test('v12: the create event is in every auth chain, also of a state set that lacks it', () => {
    const { room, resolved, set } = setUp('12')
    const topic = set(0, alice, 'topic', { topic: 'x' }, 1) as EventId
    const key = stateKey('m.room.topic', '')
    room.branches[0] = new Map([[key, topic]])
    room.branches[1] = new Map()
    const withoutCreate = resolved()
    expect(withoutCreate.get(key)).toBe(topic)
    expect(withoutCreate.get(stateKey('m.room.create', ''))).toBe('$create')

    room.branches[1] = new Map([[stateKey('m.room.create', ''), '$create' as EventId]])
    expect(resolved().has(stateKey('m.room.power_levels', ''))).toBe(true)
  })

  test('an event that nobody has is named', () => {
    const { room, resolved, set } = setUp()
    const id = set(0, alice, 'topic', { topic: 'x' }, 1) as EventId
    room.events.delete(id)
    expect(resolved).toThrow(new MissingEventError(id))
  })
})

// ── the specification, without regard to speed ─────────────────────────────────────────────────────────────────────

function get(room: ForkedRoom, id: EventId): Pdu {
  const pdu = room.events.get(id)
  if (!pdu) throw new MissingEventError(id)
  return pdu
}

function chainOf(room: ForkedRoom, ids: Iterable<EventId>): Set<EventId> {
  const chain = new Set(ids)
  for (const id of chain) for (const auth of get(room, id).auth_events) chain.add(auth)
  return chain
}

function naiveAuthDifference(room: ForkedRoom): Set<EventId> {
  const chains = room.branches.map((set) => chainOf(room, set.values()))
  const all = chains.flatMap((chain) => [...chain])
  return new Set(all.filter((id) => !chains.every((chain) => chain.has(id))))
}

function naiveSubgraph(room: ForkedRoom, conflicted: readonly EventId[]): Set<EventId> {
  const reachesConflicted = (id: EventId) => [...chainOf(room, [id])].some((below) => conflicted.includes(below))
  return new Set([...chainOf(room, conflicted)].filter(reachesConflicted))
}

function naiveResolution(room: ForkedRoom): StateMap {
  const { rules } = room
  const { agreed, conflicted } = conflictOf(rules, room.branches)
  const ids = [...conflicted.values()].flat()
  if (ids.length === 0) return agreed
  const full = new Set([...ids, ...naiveAuthDifference(room)])
  const isV21 = rules.stateResolution === 'v2.1'
  if (isV21) for (const id of naiveSubgraph(room, ids)) full.add(id)

  const authOf = (pdu: Pdu, type: string, key: string) =>
    type === 'm.room.create'
      ? get(room, '$create' as EventId)
      : pdu.auth_events.map((id) => get(room, id)).find((event) => event.type === type && event.state_key === key)
  const level = (id: EventId) => {
    const pdu = get(room, id)
    return powerLevelOf(rules, { get: (type, key) => authOf(pdu, type, key) }, pdu.sender)
  }
  const chosen = new Set([...full].filter((id) => isPowerEvent(get(room, id))))
  for (const id of chosen) for (const auth of get(room, id).auth_events) if (full.has(auth)) chosen.add(auth)
  const power: EventId[] = []
  while (power.length < chosen.size) {
    const ready = [...chosen].filter(
      (id) =>
        !power.includes(id) && get(room, id).auth_events.every((auth) => !chosen.has(auth) || power.includes(auth)),
    )
    ready.sort((x, y) => {
      const [levelX, levelY] = [level(x), level(y)]
      if (levelX !== levelY) return levelX > levelY ? -1 : 1
      return get(room, x).origin_server_ts - get(room, y).origin_server_ts || (x < y ? -1 : 1)
    })
    power.push(ready[0] as EventId)
  }

  let state: Map<string, EventId> = isV21 ? new Map() : new Map(agreed)
  const apply = (events: readonly EventId[]) => {
    for (const id of events) {
      const pdu = get(room, id)
      const held = (type: string, key: string) => {
        const inState = state.get(stateKey(type, key))
        return inState ? get(room, inState) : authOf(pdu, type, key)
      }
      if (checkAuth(rules, pdu, { get: held }).allowed) state.set(stateKey(pdu.type, pdu.state_key ?? ''), id)
    }
  }
  apply(power)

  const above = (id: EventId) => authOf(get(room, id), 'm.room.power_levels', '')?.event_id
  const mainline: EventId[] = []
  for (let at = state.get(stateKey('m.room.power_levels', '')); at; at = above(at)) mainline.push(at)
  const position = (id: EventId) => {
    for (let at = above(id); at; at = above(at)) if (mainline.includes(at)) return mainline.indexOf(at)
    return 1e9
  }
  const rest = [...full].filter((id) => !chosen.has(id))
  rest.sort(
    (x, y) =>
      position(y) - position(x) || get(room, x).origin_server_ts - get(room, y).origin_server_ts || (x < y ? -1 : 1),
  )
  apply(rest)
  state = new Map([...state, ...agreed])
  return state
}
