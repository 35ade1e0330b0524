import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { shardCount } from '../../../shared/commands/shards.ts'
import { planMoves, type SeenMain, type Sight } from './plan.ts'

const main = (id: string, over: Partial<SeenMain> = {}): SeenMain => ({
  id,
  standby: false,
  leaving: false,
  left_ms: 2_000,
  ...over,
})

/** Lets all mains act on what they see, one after the other, until nobody wants anything. */
function settle(mains: readonly SeenMain[], owners: (string | null)[]): { rounds: number; owners: (string | null)[] } {
  const now = [...owners]
  for (let rounds = 0; ; rounds++) {
    let quiet = true
    for (const { id, left_ms } of mains) {
      if (left_ms <= 0) continue
      const moves = planMoves(id, { mains, owners: now })
      for (const dead of moves.takeOver) {
        now.forEach((owner, shard) => {
          if (owner === dead) {
            now[shard] = id
            quiet = false
          }
        })
      }
      let left = moves.claim
      now.forEach((owner, shard) => {
        if (owner === null && left-- > 0) {
          now[shard] = id
          quiet = false
        }
      })
      for (const { shard, to } of planMoves(id, { mains, owners: now }).give) {
        expect(now[shard]).toBe(id)
        now[shard] = to
        quiet = false
      }
    }
    if (quiet) return { rounds, owners: now }
    if (rounds > 20) throw new Error('shards go round in circles')
  }
}

function counts({ owners }: Pick<Sight, 'owners'>): Record<string, number> {
  const found: Record<string, number> = {}
  for (const owner of owners) found[owner ?? 'free'] = (found[owner ?? 'free'] ?? 0) + 1
  return found
}

const free: (string | null)[] = Array.from({ length: shardCount }, () => null)

describe('shares', () => {
  test.each([
    { why: 'one main owns all', mains: [main('a')], shares: { a: 64 } },
    { why: 'two have half each', mains: [main('a'), main('b')], shares: { a: 32, b: 32 } },
    {
      why: 'of three, none has more than a third rounded up',
      mains: [main('a'), main('b'), main('c')],
      shares: { a: 22, b: 22, c: 20 },
    },
    { why: 'a standby has nothing', mains: [main('a'), main('b', { standby: true })], shares: { a: 64 } },
    {
      why: 'a standby has all where nobody else lives',
      mains: [main('a', { left_ms: -1 }), main('b', { standby: true })],
      shares: { b: 64 },
    },
    { why: 'who ends has nothing', mains: [main('a', { leaving: true }), main('b')], shares: { b: 64 } },
    { why: 'who ends alone leaves all free', mains: [main('a', { leaving: true })], shares: { free: 64 } },
  ])('$why', ({ mains, shares }) => {
    expect(counts(settle(mains, free))).toEqual(shares)
  })

  test('whatever was, all come to fair shares in a few rounds, and nothing moves after that', () => {
    const ids = ['a', 'b', 'c', 'd', 'e']
    const anyMain = fc.record({ standby: fc.boolean(), leaving: fc.boolean(), left_ms: fc.constantFrom(-1, 2_000) })
    fc.assert(
      fc.property(
        fc.array(anyMain, { minLength: 1, maxLength: ids.length }),
        fc.array(fc.option(fc.nat(ids.length - 1)), { minLength: shardCount, maxLength: shardCount }),
        (states, owned) => {
          const mains = states.map((state, i) => main(ids[i] ?? '', state))
          const { owners } = settle(
            mains,
            owned.map((i) => (i === null ? null : (mains[i]?.id ?? null))),
          )
          const able = mains.filter((one) => one.left_ms > 0 && !one.leaving)
          const sharing = able.some((one) => !one.standby) ? able.filter((one) => !one.standby) : able
          if (sharing.length === 0) return
          const most = Math.ceil(shardCount / sharing.length)
          for (const [owner, count] of Object.entries(counts({ owners }))) {
            expect(sharing.map((one) => one.id)).toContain(owner)
            expect(count).toBeLessThanOrEqual(most)
          }
        },
      ),
    )
  })
})
