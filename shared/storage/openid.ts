/** Reads of OpenID tokens. https://spec.matrix.org/v1.19/client-server-api/#openid */
import { isWellFormedToken, tokenHash, tokenHashBytes } from '../auth/tokens.ts'
import type { UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

/** Whose token it is; undefined where it is nobody's, or has expired. */
export async function openIdUser(
  sql: ReadSql,
  { access_token, now }: { readonly access_token: string; readonly now: number },
): Promise<UserId | undefined> {
  if (!isWellFormedToken(access_token, 'got')) return undefined
  const [row] = await sql<{ user_id: UserId }[]>`
    select t.user_id from openid_tokens t join users u using (user_id)
    where t.token_hash = ${tokenHashBytes(tokenHash(access_token))} and t.expires_ts > ${now} and not u.deactivated`
  return row && (fromPgText(row.user_id) as UserId)
}
