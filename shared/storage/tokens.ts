/** Reads of tokens. Hashes are base64url outside and bytes in the tables. */
import type { DeviceId, UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

export interface AccessTokenRow {
  readonly user_id: UserId
  readonly device_id: DeviceId
  readonly expires_ts: number | null
  /** Handed out by a refresh and not used yet: its first use ends the pair before it. */
  readonly supersedes: boolean
  readonly admin: boolean
  readonly kind: string
  readonly deactivated: boolean
  readonly locked: boolean
  readonly suspended: boolean
  readonly last_seen_ts: number | null
}

export async function accessTokenByHash(sql: ReadSql, tokenHash: string): Promise<AccessTokenRow | undefined> {
  const [row] = await sql<AccessTokenRow[]>`
    select t.user_id, t.device_id, t.expires_ts, t.supersedes, u.admin, u.kind, u.deactivated, u.locked, u.suspended,
      d.last_seen_ts
    from access_tokens t
    join users u using (user_id)
    left join devices d using (user_id, device_id)
    where t.token_hash = ${Buffer.from(tokenHash, 'base64url')}`
  return row && { ...row, device_id: fromPgText(row.device_id) as DeviceId }
}
