/** Reads of pushers. */
import type { UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

export interface Pusher {
  readonly app_id: string
  readonly pushkey: string
  readonly kind: string
  readonly app_display_name: string
  readonly device_display_name: string
  readonly profile_tag: string | null
  readonly lang: string
  /** JSON text. */
  readonly data: string
}

/** Oldest first. */
export async function pushersOf(sql: ReadSql, user_id: UserId): Promise<Pusher[]> {
  const rows = await sql<Pusher[]>`
    select app_id, pushkey, kind, app_display_name, device_display_name, profile_tag, lang, data
    from pushers where user_id = ${user_id} order by set_ts, app_id, pushkey`
  return rows.map((row) => ({
    ...row,
    app_id: fromPgText(row.app_id),
    pushkey: fromPgText(row.pushkey),
    app_display_name: fromPgText(row.app_display_name),
    device_display_name: fromPgText(row.device_display_name),
    profile_tag: row.profile_tag === null ? null : fromPgText(row.profile_tag),
    lang: fromPgText(row.lang),
  }))
}
