/** The database's say about who writes what: the functions of migration 0003, one round trip each, all or nothing. */
import { setTimeout as sleep } from 'node:timers/promises'
import postgres from 'postgres'
import * as v from 'valibot'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { SeenMain } from './plan.ts'

/** Others write this database in a way that this process would not hear of; the message is for the operator. */
export class WritersAtWorkError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'WritersAtWorkError'
  }
}

const Seen = v.object({
  mains: v.nullable(
    v.array(v.object({ id: v.string(), standby: v.boolean(), leaving: v.boolean(), left_ms: v.number() })),
  ),
  shards: v.array(v.tuple([v.number(), v.nullable(v.string()), v.number()])),
})

export interface SeenShards {
  readonly mains: readonly SeenMain[]
  readonly owners: readonly (string | null)[]
  readonly epochs: readonly number[]
}

export interface LeaseTable {
  join(main: { id: string; owner: string; url: string; standby: boolean; ttlMs: number }): Promise<void>
  /** undefined: the lease was taken over. */
  renew(id: string, ttlMs: number): Promise<SeenShards | undefined>
  /** The shards that came with it; undefined where the main lives, or another was quicker. */
  takeOver(by: string, id: string): Promise<readonly number[] | undefined>
  claim(by: string, count: number): Promise<readonly number[]>
  handOver(by: string, moves: readonly { readonly shard: number; readonly to: string | undefined }[]): Promise<void>
  /** It takes nothing any more. */
  retire(id: string): Promise<void>
  leave(id: string): Promise<void>
}

export function leaseTable(sql: MainSql): LeaseTable {
  return {
    async join({ id, owner, url, standby, ttlMs }) {
      await sql`select join_mains(${id}, ${owner}, ${url}, ${standby}, ${ttlMs})`
    },
    async renew(id, ttlMs) {
      const [row] = await sql<{ seen: string | null }[]>`select renew_main(${id}, ${ttlMs}) as seen`
      if (typeof row?.seen !== 'string') return undefined
      const { mains, shards } = v.parse(Seen, JSON.parse(row.seen))
      const owners: (string | null)[] = []
      const epochs: number[] = []
      for (const [shard, owner, epoch] of shards) {
        owners[shard] = owner
        epochs[shard] = epoch
      }
      return { mains: mains ?? [], owners, epochs }
    },
    async takeOver(by, id) {
      const [row] = await sql<
        { taken: string | null }[]
      >`select array_to_string(take_over_main(${by}, ${id}), ',') as taken`
      return typeof row?.taken === 'string' ? numbers(row.taken) : undefined
    },
    async claim(by, count) {
      const [row] = await sql<
        { taken: string | null }[]
      >`select array_to_string(claim_shards(${by}, ${count}), ',') as taken`
      return numbers(row?.taken ?? '')
    },
    async handOver(by, moves) {
      await sql`select hand_over_shards(${by}, ${`{${moves.map((move) => move.shard)}}`}::text::integer[],
        ${`{${moves.map((move) => (move.to === undefined ? 'NULL' : `"${move.to}"`))}}`}::text::text[])`
    },
    async retire(id) {
      await sql`update mains set leaving = true where id = ${id}`
    },
    async leave(id) {
      await sql`select leave_mains(${id})`
    },
  }
}

function numbers(list: string): number[] {
  return list === '' ? [] : list.split(',').map(Number)
}

/** Longer than a lease: that of a main which was killed a moment ago is over by then. */
const patienceMs = 4_000

/** Makes this process the only writer; whoever was before can't commit any more. Throws WritersAtWorkError while main
 *  processes live that share their work. Returns how to end in good order. */
export async function claimAlone(sql: MainSql, owner: string): Promise<() => Promise<void>> {
  const until = performance.now() + patienceMs
  for (;;) {
    try {
      await sql`select claim_alone(${owner})`
      break
    } catch (error) {
      if (!(error instanceof postgres.PostgresError) || error.code !== 'GN002') throw error
      if (performance.now() > until) throw new WritersAtWorkError(error.message)
      await sleep(250)
    }
  }
  return async () => {
    await sql`select leave_alone(${owner})`
  }
}
