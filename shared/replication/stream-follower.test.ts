import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { StreamPosition, StreamUpdate } from '../streams/define.ts'
import { StreamFollower } from './stream-follower.ts'

interface Row {
  readonly position: StreamPosition
}
const at = (position: number) => position as StreamPosition

/** Rows at (prev, position]; a sparse stream has some of them only, as where later rows took the place of earlier ones. */
function update(prev: number, position: number, has: (position: number) => boolean = () => true): StreamUpdate<Row> {
  const rows: Row[] = []
  for (let i = prev + 1; i <= position; i++) if (has(i)) rows.push({ position: at(i) })
  return { prev: at(prev), position: at(position), rows }
}

function follow(from: number) {
  const heard: number[] = []
  const updates: StreamUpdate<Row>[] = []
  const follower = new StreamFollower<Row>(at(from), (delivered) => {
    updates.push(delivered)
    heard.push(...delivered.rows.map((row) => row.position))
  })
  return { follower, heard, updates }
}

const sizes = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 40 })

/** Batches as mains commit them: one after the other, without gaps. */
function batches(sizesOf: readonly number[], from: number): StreamUpdate<Row>[] {
  let position = from
  return sizesOf.map((size) => {
    const made = update(position, position + size)
    position += size
    return made
  })
}

describe('a follower of one stream', () => {
  test('delivers each row once and in order, whatever order, repetition and overlap the updates come in', () => {
    fc.assert(
      fc.property(sizes, fc.nat(100), fc.infiniteStream(fc.nat()), (sizesOf, from, random) => {
        const made = batches(sizesOf, from)
        const last = made.at(-1)!.position
        const { follower, heard, updates } = follow(from)
        const offers = [...made]
        // What catching up reads begins and ends anywhere.
        for (const _ of made) {
          const prev = from + (random.next().value % (last - from))
          offers.push(update(prev, prev + 1 + (random.next().value % (last - prev))))
        }
        offers.push(...made)
        while (offers.length > 0) {
          const [next] = offers.splice(random.next().value % offers.length, 1)
          const before = follower.position
          const result = follower.offer(next!)
          expect(result === 'delivered').toBe(follower.position > before)
          expect(follower.position).toBeGreaterThanOrEqual(before)
        }
        expect(heard).toEqual(Array.from({ length: last - from }, (_, i) => from + 1 + i))
        expect(follower.gap()).toBeUndefined()
        let prev = from
        for (const delivered of updates) {
          expect(delivered.prev).toBe(prev)
          prev = delivered.position
        }
        expect(prev).toBe(last)
      }),
    )
  })

  test('names the gap; filling gap after gap brings everything, however much was lost', () => {
    fc.assert(
      fc.property(sizes, fc.infiniteStream(fc.nat(3)), fc.integer({ min: 1, max: 7 }), (sizesOf, random, page) => {
        const made = batches(sizesOf, 0)
        const last = made.at(-1)!.position
        const { follower, heard } = follow(0)
        for (const next of made) if (random.next().value === 0) follower.offer(next)
        follower.hear(last)
        for (let gap = follower.gap(); gap; gap = follower.gap()) {
          expect(gap.after).toBe(follower.position)
          expect(gap.upTo).toBeGreaterThan(gap.after)
          expect(follower.offer(update(gap.after, Math.min(gap.after + page, gap.upTo)))).toBe('delivered')
        }
        expect(heard).toEqual(Array.from({ length: last }, (_, i) => 1 + i))
      }),
    )
  })

  test('takes positions without rows as they are: later rows stood in for them', () => {
    fc.assert(
      fc.property(sizes, fc.integer({ min: 2, max: 4 }), (sizesOf, every) => {
        const last = sizesOf.reduce((sum, size) => sum + size, 0)
        const { follower, heard } = follow(0)
        follower.offer(update(0, last, (position) => position % every === 0))
        expect(follower.position).toBe(last)
        expect(heard.every((position) => position % every === 0)).toBe(true)
      }),
    )
  })

  test('goes on from where it was started: a restart hears no row again', () => {
    const { follower, heard } = follow(7)
    expect(follower.offer(update(0, 7))).toBe('known')
    expect(follower.offer(update(5, 9))).toBe('delivered')
    expect(heard).toEqual([8, 9])
  })

  test('keeps a bounded number of early updates, and finds what it dropped as a gap', () => {
    const { follower, heard } = follow(0)
    const count = 1000
    for (let i = 1; i < count; i++) expect(follower.offer(update(i, i + 1))).toBe('early')
    follower.offer(update(0, 1))
    expect(follower.position).toBeLessThan(count)
    const gap = follower.gap()
    expect(gap).toEqual({ after: follower.position, upTo: count })
    follower.offer(update(gap!.after, gap!.upTo))
    expect(heard).toHaveLength(count)
  })

  test('a listener that throws leaves the position behind it: the caller ends the process', () => {
    const follower = new StreamFollower<Row>(at(0), () => {
      throw new Error('broken')
    })
    expect(() => follower.offer(update(0, 1))).toThrow('broken')
    expect(follower.position).toBe(1)
  })
})
