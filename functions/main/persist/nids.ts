/** Compact surrogates for events, rooms, state keys, roots and chains: unique, in no order. Taken from sequence `nids`
 *  in blocks, so that naming an event costs no round trip; what a stopped process had left is skipped. */
import assert from 'node:assert/strict'
import type { MainSql } from '../../../shared/storage/sql.ts'

/** The sequence's increment. */
const blockSize = 1024
/** The next block is fetched when this few are left. */
const lowWater = 256

export interface Nids {
  /** A number at once while a block is at hand, which is nearly always. */
  next(): number | Promise<number>
  take(count: number): Promise<number[]>
}

export function createNids(sql: MainSql): Nids {
  const blocks: { next: number; end: number }[] = []
  let left = 0
  let fetching: Promise<void> | undefined

  async function fetchBlock(): Promise<void> {
    const [row] = await sql<{ start: number }[]>`select nextval('nids') as start`
    assert(row, 'nextval returns a row')
    blocks.push({ next: row.start, end: row.start + blockSize })
    left += blockSize
  }
  function refill(): Promise<void> {
    fetching ??= fetchBlock().finally(() => {
      fetching = undefined
    })
    return fetching
  }
  function pick(): number | undefined {
    let block = blocks[0]
    while (block && block.next === block.end) {
      blocks.shift()
      block = blocks[0]
    }
    if (!block) return undefined
    left--
    // A failed prefetch is tried again by the next call, and reported by the one that runs dry.
    if (left < lowWater && !fetching) refill().catch(() => undefined)
    return block.next++
  }
  async function wait(): Promise<number> {
    for (;;) {
      await refill()
      const nid = pick()
      if (nid !== undefined) return nid
    }
  }
  return {
    next: () => pick() ?? wait(),
    async take(count) {
      const nids: number[] = []
      while (nids.length < count) nids.push(pick() ?? (await wait()))
      return nids
    },
  }
}
