/** The last row of each key of the ephemeral streams, as Redis keeps them: a hash of rows without their positions, and a
 *  sorted set of the positions. */
import * as v from 'valibot'
import type { RedisConnection } from '../redis/connection.ts'
import type { StreamPosition } from '../streams/define.ts'
import { type PresenceRow, presence } from '../streams/presence.ts'
import { type TypingRow, typing } from '../streams/typing.ts'
import { parseScores, type ReplicationKeys } from './redis-state.ts'

export type EphemeralName = 'typing' | 'presence'
export type EphemeralRow = TypingRow | PresenceRow

/** A handler that was just started takes as many of the newest rows. */
export const latestMax = 20_000
const rowsPerRead = 2_000

const rowTexts = v.array(v.nullable(v.string()))
const positionReply = v.nullable(v.pipe(v.union([v.number(), v.string()]), v.transform(Number), v.safeInteger()))

/** The row as the hash keeps it. */
export function rowText(row: Omit<EphemeralRow, 'position'>): string {
  const { position: _, ...rest } = row as EphemeralRow
  return JSON.stringify(rest)
}

export function keyOf(stream: EphemeralName, row: Omit<EphemeralRow, 'position'>): string {
  return stream === 'typing' ? typing.keyOf(row as TypingRow) : presence.keyOf(row as PresenceRow)
}

export function hasEnded(stream: EphemeralName, row: Omit<EphemeralRow, 'position'>): boolean {
  return stream === 'typing' && (typing.ended?.is(row as TypingRow) ?? false)
}

/** A row from the hash; throws a ValiError for what is none. */
export function parseRow(stream: EphemeralName, text: string, position: number): EphemeralRow {
  const row: unknown = { ...(JSON.parse(text) as object), position }
  return stream === 'typing' ? v.parse(typing.row, row) : v.parse(presence.row, row)
}

/** What a reader at `after` has missed: the last rows since, oldest first; where rows end, also that those of `active` which
 *  Redis holds no more have. Undefined where Redis knows of nothing. */
export async function readLatest(
  { client }: RedisConnection,
  keys: ReplicationKeys,
  stream: EphemeralName,
  { after, active }: { readonly after: number; readonly active: ReadonlySet<string> },
): Promise<{ position: StreamPosition; rows: EphemeralRow[] } | undefined> {
  const definition = stream === 'typing' ? typing : presence
  const from = definition.ended ? 0 : after
  const reply: unknown[] = await client
    .multi()
    .zscore(keys.positions, stream)
    .zrange(keys.latest(stream), '+inf', `(${from}`, {
      byScore: true,
      rev: true,
      offset: 0,
      count: latestMax,
      withScores: true,
    })
    .exec()
  const position = v.parse(positionReply, reply[0])
  if (position === null) return undefined
  const scores = parseScores(reply[1])
  const rows: EphemeralRow[] = []
  const names = [...scores.keys()]
  for (let i = 0; i < names.length; i += rowsPerRead) {
    const part = names.slice(i, i + rowsPerRead)
    const texts = v.parse(rowTexts, await client.hmget(keys.rows(stream), ...part))
    for (const [j, text] of texts.entries()) {
      const at = scores.get(part[j] ?? '') ?? 0
      // A newer row, written since, comes with its own update.
      if (text !== null && at > after && at <= position) rows.push(parseRow(stream, text, at))
    }
  }
  for (const key of active) {
    if (!scores.has(key) && definition.ended) rows.push(definition.ended.of(key, position as StreamPosition))
  }
  rows.sort((a, b) => a.position - b.position)
  return { position: position as StreamPosition, rows }
}
