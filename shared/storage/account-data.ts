import type { UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

export interface StoredAccountData {
  /** 0: global. */
  readonly room_nid: number
  readonly type: string
  /** JSON text. */
  readonly content: string
  readonly position: number
}

/** The user's account data, global and of rooms, that was last set at positions in (after, upTo]. */
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

/** Everything of the user in these rooms, at positions up to `upTo`. */
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
