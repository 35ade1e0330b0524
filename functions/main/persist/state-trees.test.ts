import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../../shared/clock.ts'
import { createInProcessReplication } from '../../../shared/replication/in-process.ts'
import { stateDelta, stateMapAt } from '../../../shared/storage/state.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { createCommitter } from './committer.ts'
import { createNids } from './nids.ts'
import { createStateTrees } from './state-trees.ts'
import { type StateChange, stateMapKey } from './state-types.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())

const change = fc.record({
  type: fc.constantFrom('m.room.member', 'm.room.topic', '\0', '\uE000', 'a"\\b'),
  state_key: fc.oneof(
    fc.nat(60).map((n) => `@u${n}:x`),
    fc.constantFrom('', '\0', '\uE0000'),
  ),
  event_nid: fc.option(fc.integer({ min: 1, max: 1_000_000 }), { nil: undefined, freq: 5 }),
})

test('states that were applied are read back as maps, and differ as maps do', async () => {
  const { sql } = database
  const nids = createNids(sql)
  const trees = createStateTrees({ sql, nids })
  const committer = createCommitter({ sql, publisher: createInProcessReplication({}, systemClock), clock: systemClock })
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(change, { minLength: 1, maxLength: 60 }), { minLength: 2, maxLength: 8 }),
      async (steps) => {
        const states: { root: number | undefined; map: Map<string, number> }[] = [{ root: undefined, map: new Map() }]
        for (const [i, step] of steps.entries()) {
          const base = states[(i * 7) % states.length]!
          const map = new Map(base.map)
          for (const { type, state_key, event_nid } of step) {
            if (event_nid === undefined) map.delete(stateMapKey(type, state_key))
            else map.set(stateMapKey(type, state_key), event_nid)
          }
          const { root_id, writes } = await trees.apply(base.root, 1, step as StateChange[])
          await committer.commit({ state: writes })
          states.push({ root: root_id, map })
        }
        const [first, second, last] = [states[1]!, states[2]!, states.at(-1)!]
        for (const { root, map } of [first, second, last]) {
          expect(await trees.load(root!)).toEqual(map)
          // A handle of its own has nothing cached of what was applied.
          expect(await stateMapAt(database.read, root!)).toEqual(map)
          const asked = ['', '@u1:x', '@u2:x', '\0'].map((key) => ['m.room.member', key] as const)
          expect(await trees.lookup(root!, asked)).toEqual(asked.map((key) => map.get(stateMapKey(...key))))
        }
        const found = await stateDelta(database.read, first.root!, last.root!)
        const expected = new Map<string, unknown>()
        for (const key of new Set([...first.map.keys(), ...last.map.keys()]))
          if (first.map.get(key) !== last.map.get(key)) expected.set(key, [first.map.get(key), last.map.get(key)])
        expect(new Map(found.map((d) => [stateMapKey(d.type, d.state_key), [d.before, d.after]]))).toEqual(expected)
      },
    ),
    { numRuns: 25 },
  )
  await committer.close()
})

test('two rooms that meet a key at once give it one number', async () => {
  const { sql } = database
  const trees = createStateTrees({ sql, nids: createNids(sql) })
  const other = createStateTrees({ sql, nids: createNids(sql) })
  const changes = [{ type: 'm.new', state_key: 'key', event_nid: 5 }]
  const states = await Promise.all([trees, trees, other].map((t) => t.apply(undefined, 1, changes)))
  const deltas = new Set(states.map(({ writes }) => writes.roots[0]!.delta.toString('hex')))
  expect(deltas.size).toBe(1)
})
