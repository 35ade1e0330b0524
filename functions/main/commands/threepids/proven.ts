/** What sessions of third-party ids have shown. */
import { hash } from 'node:crypto'
import type { ProvenThreepid, ThreepidCreds, ThreepidPurpose } from '../../../../shared/commands/threepids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { Medium } from '../../../../shared/matrix/threepid.ts'
import { fromPgText, type MainSql, pgText } from '../../../../shared/storage/sql.ts'
import { isUniqueViolation } from '../../persist/commit-connection.ts'
import type { Writes } from '../../persist/writes.ts'

/** The secret is by which a client comes back: who reads the database is not to come in its place. */
export function clientSecretHash(client_secret: string): Buffer {
  return hash('sha256', client_secret, 'buffer')
}

/** What was shown in this session; undefined where nothing was, or it was for something else. */
export async function provenThreepid(
  sql: MainSql,
  { sid, client_secret }: ThreepidCreds,
  { purpose, now }: { readonly purpose: ThreepidPurpose; readonly now: number },
): Promise<ProvenThreepid | undefined> {
  const [row] = await sql<{ medium: Medium; address: string; validated_ts: number }[]>`
    select medium, address, validated_ts from threepid_sessions
    where session_id = ${pgText(sid)} and client_secret_hash = ${clientSecretHash(client_secret)}
      and purpose = ${purpose} and validated_ts is not null and expires_ts > ${now}`
  return row && { ...row, address: fromPgText(row.address) }
}

/** The session is used up. */
export function endSession(sid: string): Writes {
  return { also: (tx) => [tx`delete from threepid_sessions where session_id = ${pgText(sid)}`] }
}

/** Of two accounts that get one address at once, the database lets one have it. */
export function insertThreepids(user_id: string, threepids: readonly ProvenThreepid[], added_ts: number): Writes {
  return {
    also: (tx) =>
      threepids.map(
        ({ medium, address, validated_ts }) =>
          tx`insert into user_threepids (medium, address, user_id, validated_ts, added_ts)
            values (${medium}, ${pgText(address)}, ${user_id}, ${validated_ts}, ${added_ts})`,
      ),
  }
}

/** The error of a commit as its caller is to see it. */
export function ifTaken(error: unknown): unknown {
  return isUniqueViolation(error, 'user_threepids_pkey') ? threepidInUse() : error
}

export function threepidInUse(): MatrixError {
  return new MatrixError('M_THREEPID_IN_USE', 'This address belongs to an account already')
}
