/** Room summaries, read once for all who are told of a change. */
import type { UserId } from '../../shared/matrix/ids.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import { type RoomSummary, roomSummaries } from '../../shared/storage/sync-rooms.ts'
import type { LiveRoom } from './live-room.ts'
import type { Soon } from './soon.ts'

const heroesMax = 5
const none: ReadonlyMap<number, RoomSummary> = new Map()

/** Summaries of these rooms as `user` sees them. */
export function summariesFor(
  sql: ReadSql,
  user: UserId,
  rooms: readonly LiveRoom[],
): Soon<ReadonlyMap<number, RoomSummary>> {
  return rooms.length === 0 ? none : readSummaries(sql, user, rooms)
}

async function readSummaries(
  sql: ReadSql,
  user: UserId,
  rooms: readonly LiveRoom[],
): Promise<ReadonlyMap<number, RoomSummary>> {
  const found = new Map<number, RoomSummary>()
  const unknown = rooms.filter((room) => !room.summary)
  if (unknown.length > 0) {
    const reading = roomSummaries(
      sql,
      unknown.map((room) => room.room_nid),
    )
    for (const room of unknown) {
      const summary = reading.then((summaries) => summaries.get(room.room_nid))
      room.summary = summary
      // Who asked hears of the failure; the next to ask reads again.
      summary.catch(() => {
        if (room.summary === summary) room.summary = undefined
      })
    }
  }
  const summaries = await Promise.all(rooms.map((room) => room.summary))
  for (const summary of summaries) if (summary) found.set(summary.room_nid, asSeenBy(user, summary))
  return found
}

/** Members who are there come first; who left or was banned stands in only where nobody else is there. */
function asSeenBy(user: UserId, summary: RoomSummary): RoomSummary {
  const heroes = summary.heroes?.filter((hero) => hero !== user).slice(0, heroesMax) ?? null
  return { ...summary, heroes }
}
