/** Reads of previews of URLs. */
import type { UrlPreviewKey } from '../commands/url-previews.ts'
import type { ReadSql } from './sql.ts'

/** JSON text; null while somebody makes it. undefined: nobody does, and there is none that counts at `now`. */
export async function urlPreview(sql: ReadSql, key: UrlPreviewKey, now: number): Promise<string | null | undefined> {
  const [row] = await sql<{ answer: string | null }[]>`
    select answer from url_previews where key = ${key} and expires_ts > ${now}`
  return row?.answer
}
