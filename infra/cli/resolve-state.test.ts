import { Readable, Writable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { resolveState } from '../../shared/core/state-resolution/resolve.ts'
import { ForkedRoom, users } from '../../test/support/forked-room.ts'
import { resolveStateCommand } from './resolve-state.ts'

async function answers(lines: readonly string[]): Promise<unknown[]> {
  let written = ''
  const stdout = new Writable({
    highWaterMark: 64,
    write(chunk, _, done) {
      written += chunk
      setImmediate(done)
    },
  })
  expect(await resolveStateCommand(Readable.from(lines.map((line) => `${line}\n`)), stdout)).toBe(0)
  stdout.end()
  return written
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

/** A room that two forks ban and rename, as a case. */
function forked(version: string) {
  const rules = rulesOf(version)
  const [alice, bob] = users
  if (!rules || !alice || !bob) throw new Error('no such version')
  const room = new ForkedRoom(rules)
  room.send(0, { type: 'm.room.member', state_key: bob, sender: bob, content: { membership: 'join' } })
  room.branches.push(new Map(room.branches[0]))
  room.send(0, { type: 'm.room.member', state_key: bob, sender: alice, content: { membership: 'ban' } })
  room.send(1, { type: 'm.room.topic', state_key: '', sender: bob, content: { topic: 'x' } })
  const pairs = rules.eventReferencesHaveHashes
  const events = [...room.events].map(([id, { event_id: _, auth_events, room_id, ...pdu }]) => [
    id,
    {
      ...pdu,
      ...(rules.roomIdIsCreateHash && pdu.type === 'm.room.create' ? {} : { room_id }),
      auth_events: pairs ? auth_events.map((auth) => [auth, { sha256: 'x' }]) : auth_events,
    },
  ])
  return {
    expected: [...resolveState(rules, room.branches, room.event).values()].sort(),
    input: {
      id: `v${version}`,
      room_version: version,
      events: Object.fromEntries(events),
      state_sets: room.branches.map((set) => [...set.values()]),
    },
  }
}

describe('ganglion resolve-state', () => {
  test.each(['1', '2', '3', '6', '10', '11', '12'])('answers a case of version %s', async (version) => {
    const { input, expected } = forked(version)
    expect(await answers([JSON.stringify(input)])).toEqual([{ id: `v${version}`, state: expected }])
  })

  test('says what is wrong with a line and goes on with the next', async () => {
    const { input, expected } = forked('11')
    const [first = [], second = []] = input.state_sets
    const cases: [object, RegExp][] = [
      [{ ...input, room_version: '99' }, /room version 99/],
      [{ ...input, state_sets: [[...first, '$none']] }, /event \$none is missing/],
      [{ ...input, state_sets: 'x' }, /state_sets/],
      [{ ...input, events: { ...input.events, $create: { type: 'm.room.create' } } }, /\$create/],
      [{ ...input, state_sets: [first, [...first, ...second]] }, /same type and state_key/],
    ]
    const lines = [...cases.map(([one]) => JSON.stringify(one)), '{', '[]', '', JSON.stringify(input)]
    const replies = await answers(lines)
    expect(replies).toHaveLength(lines.length)
    for (const [i, [, error]] of cases.entries()) {
      expect(replies[i]).toEqual({ id: 'v11', error: expect.stringMatching(error) })
    }
    for (const reply of replies.slice(cases.length, -1)) expect(reply).toEqual({ id: null, error: expect.any(String) })
    expect(replies.at(-1)).toEqual({ id: 'v11', state: expected })
  })

  test('one set is its own answer, and none is an empty state', async () => {
    const { input } = forked('12')
    const [set = []] = input.state_sets
    const lines = [
      { ...input, state_sets: [set] },
      { ...input, state_sets: [] },
    ].map((one) => JSON.stringify(one))
    expect(await answers(lines)).toEqual([
      { id: 'v12', state: set.toSorted() },
      { id: 'v12', state: [] },
    ])
  })
})
