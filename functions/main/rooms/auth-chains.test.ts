import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { systemClock } from '../../../shared/clock.ts'
import type { RoomId } from '../../../shared/matrix/ids.ts'
import { createInProcessReplication } from '../../../shared/replication/in-process.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'
import { createCommitter } from '../persist/committer.ts'
import { createNids } from '../persist/nids.ts'
import { createAuthChains } from './auth-chains.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())

/** Event i names some of the events before it, and may replace one of them. */
const dag = fc.array(fc.record({ auth: fc.array(fc.nat(), { maxLength: 4 }), replaces: fc.nat(3) }), {
  minLength: 2,
  maxLength: 60,
})

const room = '!room:example.org' as RoomId

test('differences by the cover are those of a walk, from memory and from the tables', async () => {
  const { sql } = database
  const nids = createNids(sql)
  const committer = createCommitter({ sql, publisher: createInProcessReplication({}, systemClock), clock: systemClock })
  await fc.assert(
    fc.asyncProperty(
      dag,
      fc.array(fc.array(fc.nat(), { maxLength: 6 }), { minLength: 1, maxLength: 4 }),
      async (steps, picks) => {
        const warm = createAuthChains({ sql, nids })
        const event_nids = await nids.take(steps.length)
        const events = steps.map(({ auth, replaces }, i) => {
          const named = i === 0 ? [] : [...new Set(auth.map((n) => n % i))].map((n) => event_nids[n]!)
          return { event_nid: event_nids[i]!, auth_event_nids: named, replaces_nid: named[replaces] }
        })
        const chainOf = new Map<number, Set<number>>()
        for (const { event_nid, auth_event_nids } of events)
          chainOf.set(event_nid, new Set([event_nid, ...auth_event_nids.flatMap((nid) => [...chainOf.get(nid)!])]))

        const half = events.length >> 1
        await committer.commit({ auth_chains: await warm.assign(room, events.slice(0, half)) })
        await committer.commit({ auth_chains: await createAuthChains({ sql, nids }).assign(room, events.slice(half)) })
        const sets = picks.map((set) => set.map((n) => event_nids[n % event_nids.length]!))
        const full = sets.map((set) => new Set(set.flatMap((nid) => [...chainOf.get(nid)!])))
        const expected = event_nids.filter((nid) => full.some((s) => s.has(nid)) && !full.every((s) => s.has(nid)))
        const cold = createAuthChains({ sql, nids })
        expect([...(await cold.difference(room, sets))].sort()).toEqual(expected.sort())
        expect([...(await cold.difference(room, sets))].sort()).toEqual(expected.sort())
      },
    ),
    { numRuns: 20 },
  )
  await committer.close()
})

test('a forgotten event leaves its place to the next', async () => {
  const { sql } = database
  const chains = createAuthChains({ sql, nids: createNids(sql) })
  const committer = createCommitter({ sql, publisher: createInProcessReplication({}, systemClock), clock: systemClock })
  await committer.commit({ auth_chains: await chains.assign(room, [{ event_nid: 900_001, auth_event_nids: [] }]) })
  const next = (event_nid: number) =>
    chains.assign(room, [{ event_nid, auth_event_nids: [900_001], replaces_nid: 900_001 }])
  expect((await next(900_002)).chains[0]).toMatchObject({ sequence: 2 })
  chains.forget([900_002])
  expect((await next(900_003)).chains[0]).toMatchObject({ sequence: 2 })
  await committer.close()
})

test('chains that another process has added to are read anew, those of other rooms are kept', async () => {
  const { sql } = database
  const nids = createNids(sql)
  const here = createAuthChains({ sql, nids })
  const there = createAuthChains({ sql, nids })
  const committer = createCommitter({ sql, publisher: createInProcessReplication({}, systemClock), clock: systemClock })
  const [root, side, first, second] = (await nids.take(4)) as [number, number, number, number]
  await committer.commit({
    auth_chains: await here.assign(room, [
      { event_nid: root, auth_event_nids: [] },
      { event_nid: side, auth_event_nids: [root] },
      { event_nid: first, auth_event_nids: [root], replaces_nid: root },
    ]),
  })
  await committer.commit({
    auth_chains: await there.assign(room, [{ event_nid: second, auth_event_nids: [first, side], replaces_nid: first }]),
  })
  here.forgetChains((room_id) => room_id !== room)
  expect([...(await here.difference(room, [[second], [root]]))]).not.toContain(side)
  here.forgetChains((room_id) => room_id === room)
  expect([...(await here.difference(room, [[second], [root]]))].sort()).toEqual([side, first, second].sort())
  await committer.close()
})
