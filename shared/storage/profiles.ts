/** Reads of profiles. https://spec.matrix.org/v1.19/client-server-api/#profiles */
import type { UserId } from '../matrix/ids.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

/** All fields that are set; undefined where there is no such account any more. */
export async function profileOf(sql: ReadSql, user_id: UserId): Promise<JsonObject | undefined> {
  const [row] = await sql<{ display_name: string | null; avatar_url: string | null; fields: string | null }[]>`
    select p.display_name, p.avatar_url, p.fields from users u left join profiles p using (user_id)
    where u.user_id = ${pgText(user_id)} and not u.deactivated`
  if (!row) return undefined
  return {
    ...(row.display_name === null ? {} : { displayname: fromPgText(row.display_name) }),
    ...(row.avatar_url === null ? {} : { avatar_url: fromPgText(row.avatar_url) }),
    ...(row.fields === null ? {} : (JSON.parse(fromPgText(row.fields)) as JsonObject)),
  }
}
