/** Reads of registration tokens. */
import { pgText, type ReadSql } from './sql.ts'

export interface RegistrationToken {
  readonly token: string
  /** null: any number. */
  readonly uses_allowed: number | null
  /** Registrations under way that have shown it. */
  readonly pending: number
  /** Accounts made with it. */
  readonly completed: number
  /** Milliseconds since the epoch; null: never. */
  readonly expiry_ts: number | null
}

/** As many as there may be at a time. */
export const registrationTokensMax = 10_000

/** All of them, or those that are valid, or are not. */
export async function registrationTokens(sql: ReadSql, now: number, valid?: boolean): Promise<RegistrationToken[]> {
  const found = await sql<RegistrationToken[]>`
    select ${columns(sql, now)} from registration_tokens t order by created_ts, token limit ${registrationTokensMax}`
  return valid === undefined ? found : found.filter((token) => isValidToken(token, now) === valid)
}

export async function registrationToken(
  sql: ReadSql,
  token: string,
  now: number,
): Promise<RegistrationToken | undefined> {
  const [row] = await sql<RegistrationToken[]>`
    select ${columns(sql, now)} from registration_tokens t where token = ${pgText(token)}`
  return row
}

export function isValidToken(token: RegistrationToken | undefined, now: number): boolean {
  if (!token || (token.expiry_ts !== null && token.expiry_ts <= now)) return false
  return token.uses_allowed === null || token.pending + token.completed < token.uses_allowed
}

const columns = (sql: ReadSql, now: number) =>
  sql`t.token, t.uses_allowed, t.completed, t.expiry_ts, (select count(*) from registration_token_holds h
    where h.token = t.token and h.expires_ts > ${now}) as pending`
