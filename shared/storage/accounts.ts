/** Reads of accounts. */
import type { UserId } from '../matrix/ids.ts'
import { pgText, type ReadSql } from './sql.ts'

/** Whether there is or ever was such an account: ids are not given out twice. */
export async function accountExists(sql: ReadSql, user_id: UserId): Promise<boolean> {
  const [row] = await sql`select from users where user_id = ${pgText(user_id)}`
  return row !== undefined
}

/** The account as typed or, failing that, in lower case; undefined for none. */
export async function accountTypedAs(sql: ReadSql, user_id: UserId): Promise<UserId | undefined> {
  const lower = user_id.toLowerCase() as UserId
  const rows = await sql<{ user_id: UserId }[]>`
    select user_id from users where user_id = ${pgText(user_id)} or user_id = ${pgText(lower)}`
  const found = rows.map((row) => row.user_id)
  return found.includes(user_id) ? user_id : found[0]
}

export interface AccountStatus {
  readonly admin: boolean
  readonly deactivated: boolean
  readonly locked: boolean
  readonly suspended: boolean
}

export async function accountStatus(sql: ReadSql, user_id: UserId): Promise<AccountStatus | undefined> {
  const [row] = await sql<AccountStatus[]>`
    select admin, deactivated, locked, suspended from users where user_id = ${pgText(user_id)}`
  return row
}
