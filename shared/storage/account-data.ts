import type { RoomId, UserId } from '../matrix/ids.ts'
import { noAccountData } from '../streams/account-data.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export interface StoredAccountData {
  /** 0: global. */
  readonly room_nid: number
  readonly type: string
  /** JSON text. */
  readonly content: string
  readonly position: number
}

/** The user's account data, global and of rooms, that was last set or taken away at positions in (after, upTo]. */
export async function accountDataBetween(
  sql: ReadSql,
  user: UserId,
  range: { readonly after: number; readonly upTo: number },
): Promise<StoredAccountData[]> {
  if (range.after >= range.upTo) return []
  const rows = await sql<StoredAccountData[]>`
    select room_nid, type, content, position from account_data
    where user_id = ${user} and position > ${range.after} and position <= ${range.upTo} order by position`
  return rows.map((row) => ({ ...row, type: fromPgText(row.type) }))
}

/** Everything of the user in these rooms, at positions up to `upTo`; what was taken away is there too. */
export async function accountDataOfRooms(
  sql: ReadSql,
  user: UserId,
  rooms: readonly number[],
  upTo: number,
): Promise<StoredAccountData[]> {
  if (rooms.length === 0) return []
  const rows = await sql<StoredAccountData[]>`
    select room_nid, type, content, position from account_data
    where user_id = ${user} and room_nid = any(${sql.array([...rooms], 20)}::bigint[]) and position <= ${upTo}`
  return rows.map((row) => ({ ...row, type: fromPgText(row.type) }))
}

/** JSON text of one entry, global or of a room; undefined if it was never set, or was taken away. */
export async function accountDataOf(
  sql: ReadSql,
  entry: { user_id: UserId; room_id?: RoomId | undefined; type: string },
): Promise<string | undefined> {
  const [row] = entry.room_id
    ? await sql<{ content: string }[]>`
        select a.content from account_data a join rooms r on r.room_nid = a.room_nid
        where a.user_id = ${entry.user_id} and r.room_id = ${entry.room_id} and a.type = ${pgText(entry.type)}`
    : await sql<{ content: string }[]>`
        select content from account_data
        where user_id = ${entry.user_id} and room_nid = 0 and type = ${pgText(entry.type)}`
  return row && isThere(row) ? row.content : undefined
}

/** False of an entry that was taken away: who starts from nothing need not hear of it. */
export function isThere({ content }: Pick<StoredAccountData, 'content'>): boolean {
  return content !== noAccountData
}

/** Every user's list of ignored users, as JSON text. */
export function ignoredUserLists(sql: ReadSql): Promise<readonly { user_id: UserId; content: string }[]> {
  return sql<{ user_id: UserId; content: string }[]>`
    select user_id, content from account_data where type = 'm.ignored_user_list' and room_nid = 0`
}
