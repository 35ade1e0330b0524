/** The published rooms of this server. https://spec.matrix.org/v1.19/client-server-api/#published-room-directory */
import type { RoomId } from '../matrix/ids.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

/** A place in the directory, which is ordered by joined members, most first, and then by age of the surrogate. */
export interface DirectoryPlace {
  readonly joined_members: number
  readonly room_nid: number
}

export interface DirectoryQuestion {
  /** In name, topic, canonical alias or as the id; in any case. */
  readonly search?: string | undefined
  /** null: rooms without a type. */
  readonly room_types?: readonly (string | null)[] | undefined
  readonly limit: number
  /** Rooms beyond this place: those with fewer members (`after`), or those with more (`before`). */
  readonly from?: { readonly place: DirectoryPlace; readonly side: 'after' | 'before' } | undefined
}

export interface PublishedRoom extends DirectoryPlace {
  readonly room_id: RoomId
  readonly name: string | null
  readonly topic: string | null
  readonly canonical_alias: string | null
  readonly avatar_url: string | null
  readonly join_rule: string | null
  readonly history_visibility: string | null
  readonly guest_access: string | null
  readonly room_type: string | null
}

/** At most `limit` rooms, most joined members first; `side: 'before'` takes those next to the place. */
export async function publishedRooms(sql: ReadSql, question: DirectoryQuestion): Promise<PublishedRoom[]> {
  const { search, room_types, limit, from } = question
  const backwards = from?.side === 'before'
  const { joined_members, room_nid } = from?.place ?? { joined_members: 0, room_nid: 0 }
  const beyond = !from
    ? sql``
    : backwards
      ? sql`and (s.joined_members, -r.room_nid) > (${joined_members}::int, ${-room_nid}::bigint)`
      : sql`and (s.joined_members, -r.room_nid) < (${joined_members}::int, ${-room_nid}::bigint)`
  const pattern = inAnyCase(pgText(search ?? ''))
  const found =
    search === undefined
      ? sql``
      : sql`and (s.name collate "C" ~ ${pattern} or s.topic collate "C" ~ ${pattern}
          or s.canonical_alias collate "C" ~ ${pattern} or r.room_id = ${pgText(search)})`
  const types = (room_types ?? []).filter((type) => type !== null)
  const ofType = !room_types
    ? sql``
    : sql`and (s.room_type = any(${sql.array(types.map(pgText), 25)}::text[])
        ${room_types.includes(null) ? sql`or s.room_type is null` : sql``})`
  const rows = await sql<PublishedRoom[]>`
    select r.room_nid, r.room_id, s.joined_members, s.name, s.topic, s.canonical_alias, s.avatar_url, s.join_rule,
      s.history_visibility, s.guest_access, s.room_type
    from rooms r join room_summaries s using (room_nid)
    where r.published ${found} ${ofType} ${beyond}
    order by ${backwards ? sql`s.joined_members, r.room_nid desc` : sql`s.joined_members desc, r.room_nid`}
    limit ${limit}`
  if (backwards) rows.reverse()
  return rows.map((row) => ({
    ...row,
    name: row.name && fromPgText(row.name),
    topic: row.topic && fromPgText(row.topic),
    avatar_url: row.avatar_url && fromPgText(row.avatar_url),
    room_type: row.room_type && fromPgText(row.room_type),
  }))
}

/** Longer ones are taken by their beginning: a pattern costs memory and time by its length. */
const searchedLettersMax = 500

/** A regular expression that finds the text in either case. Postgres's own ways to ignore case know what the database's
 *  locale knows: often ASCII alone. */
function inAnyCase(text: string): string {
  let pattern = ''
  for (const letter of [...text.slice(0, searchedLettersMax)]) {
    const cases = new Set([letter, letter.toLowerCase(), letter.toUpperCase()].filter((form) => [...form].length === 1))
    pattern += cases.size > 1 ? `[${[...cases].join('')}]` : letter.replace(/[^\p{L}\p{N}]/u, '\\$&')
  }
  return pattern
}

export async function publishedRoomCount(sql: ReadSql): Promise<number> {
  const [row] = await sql<{ count: number }[]>`select count(*) as count from rooms where published`
  return row?.count ?? 0
}

/** Those of the rooms that the directory lists. */
export async function publishedAmong(sql: ReadSql, room_nids: readonly number[]): Promise<ReadonlySet<number>> {
  if (room_nids.length === 0) return new Set()
  const rows = await sql<{ room_nid: number }[]>`
    select room_nid from rooms where room_nid = any(${sql.array([...room_nids], 20)}::bigint[]) and published`
  return new Set(rows.map((row) => row.room_nid))
}
