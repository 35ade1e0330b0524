/** Profiles of local users, as member events carry them. */
import type { UserId } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { fromPgText, type MainSql } from '../../../../shared/storage/sql.ts'

/** `displayname` and `avatar_url` where the user has them; a user without a profile is left out. */
export async function profilesOf(sql: MainSql, users: readonly UserId[]): Promise<Map<UserId, JsonObject>> {
  if (users.length === 0) return new Map()
  const rows = await sql<{ user_id: UserId; display_name: string | null; avatar_url: string | null }[]>`
    select user_id, display_name, avatar_url from profiles where user_id in ${sql(users)}`
  return new Map(
    rows.map((row) => [
      row.user_id,
      {
        ...(row.display_name ? { displayname: fromPgText(row.display_name) } : undefined),
        ...(row.avatar_url ? { avatar_url: fromPgText(row.avatar_url) } : undefined),
      },
    ]),
  )
}

export async function profileOf(sql: MainSql, user: UserId): Promise<JsonObject> {
  return (await profilesOf(sql, [user])).get(user) ?? {}
}
