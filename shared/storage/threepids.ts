/** Reads of third-party ids. Addresses are in canonical form. */
import type { UserId } from '../matrix/ids.ts'
import type { Medium, Threepid } from '../matrix/threepid.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export interface OwnThreepid extends Threepid {
  readonly validated_ts: number
  readonly added_ts: number
}

/** Oldest first. */
export async function threepidsOf(sql: ReadSql, user_id: UserId): Promise<OwnThreepid[]> {
  const rows = await sql<{ medium: Medium; address: string; validated_ts: number; added_ts: number }[]>`
    select medium, address, validated_ts, added_ts from user_threepids
    where user_id = ${user_id} order by added_ts, medium, address`
  return rows.map((row) => ({ ...row, address: fromPgText(row.address) }))
}

/** Whose it is; undefined for nobody's. */
export async function userOfThreepid(sql: ReadSql, { medium, address }: Threepid): Promise<UserId | undefined> {
  const [row] = await sql<{ user_id: UserId }[]>`
    select user_id from user_threepids where medium = ${medium} and address = ${pgText(address)}`
  return row?.user_id
}
