/** What the database says of streams, mains and shards. */

import {
  type DestinationStatus,
  failingDestinations,
  type WaitingForDestination,
  waitingFor,
} from '../../../shared/storage/destination-status.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { streamNames, streams } from '../../../shared/streams/registry.ts'

export interface StoredMain {
  readonly id: string
  readonly url: string
  readonly standby: boolean
  readonly leaving: boolean
  /** Of its lease, by the database's clock; null: it needs none, since it is alone. */
  readonly left_ms: number | null
}

export interface StoredShard {
  readonly shard: number
  readonly owner: string | null
  /** Times it changed hands. */
  readonly epoch: number
}

/** Of the streams that are kept in the database. */
export async function storedPositions(sql: ReadSql): Promise<Record<string, number>> {
  const rows = await sql<{ name: string; position: number }[]>`select name, position from streams order by name`
  const stored = new Set<string>(streamNames.filter((name) => streams[name].kept === 'postgres'))
  return Object.fromEntries(rows.filter(({ name }) => stored.has(name)).map(({ name, position }) => [name, position]))
}

export async function mainsAndShards(sql: ReadSql): Promise<{ mains: StoredMain[]; shards: StoredShard[] }> {
  const [mains, shards] = await Promise.all([
    sql<StoredMain[]>`
      select id, url, standby, leaving,
        case when isfinite(expires_at) then extract(epoch from expires_at - clock_timestamp())::float8 * 1000 end as left_ms
      from mains order by id`,
    sql<StoredShard[]>`select shard, owner, epoch from shards order by shard`,
  ])
  return { mains: [...mains], shards: [...shards] }
}

/** Servers that are listed. */
const failingMax = 20

/** How many there are, and which have not answered for longest, with what waits for them. */
export async function destinationsAtAGlance(sql: ReadSql): Promise<{
  total: number
  failing: number
  longest: (DestinationStatus & { waiting: WaitingForDestination | null })[]
}> {
  const { longest, ...counts } = await failingDestinations(sql, failingMax)
  const waiting = await waitingFor(
    sql,
    longest.map((one) => one.server_name),
  )
  return { ...counts, longest: longest.map((one) => ({ ...one, waiting: waiting.get(one.server_name) ?? null })) }
}
