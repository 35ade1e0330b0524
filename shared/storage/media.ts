/** What is known of media. */
import type { MediaId, MediaKind } from '../commands/media.ts'
import type { ServerName, UserId } from '../matrix/ids.ts'
import type { ObjectKey } from '../media/store.ts'
import { fromPgText, type ReadSql } from './sql.ts'

/** A medium whose bytes are there. */
export interface StoredMedium {
  readonly origin: ServerName
  readonly media_id: MediaId
  readonly kind: MediaKind
  readonly user_id: UserId | null
  readonly object_key: ObjectKey
  readonly sha256: string
  readonly size: number
  readonly content_type: string
  readonly upload_name: string | null
  readonly created_ts: number
  readonly last_access_ts: number
  readonly authenticated: boolean
  readonly quarantined_by: UserId | null
  readonly protected: boolean
}

/** Its mxc:// URI was made, and waits for the upload. */
export interface AwaitedMedium {
  readonly awaited: true
  readonly user_id: UserId | null
  readonly expires_ts: number
}

export async function mediumOf(
  sql: ReadSql,
  { origin, media_id }: { readonly origin: string; readonly media_id: string },
): Promise<StoredMedium | AwaitedMedium | undefined> {
  const [row] = await sql<(StoredMedium & { object_key: ObjectKey | null; expires_ts: number | null })[]>`
    select origin, media_id, kind, user_id, object_key, sha256, size, content_type, upload_name, created_ts, last_access_ts,
      authenticated, quarantined_by, protected, expires_ts
    from media where origin = ${origin} and media_id = ${media_id}`
  if (!row) return undefined
  if (row.object_key === null) return { awaited: true, user_id: row.user_id, expires_ts: row.expires_ts ?? 0 }
  return withTexts(row)
}

export function isAwaited(medium: StoredMedium | AwaitedMedium): medium is AwaitedMedium {
  return 'awaited' in medium
}

function withTexts(row: StoredMedium): StoredMedium {
  return {
    ...row,
    content_type: fromPgText(row.content_type),
    upload_name: row.upload_name === null ? null : fromPgText(row.upload_name),
  }
}

export interface StoredThumbnail {
  readonly object_key: ObjectKey
  readonly content_type: string
  readonly size: number
  readonly sha256: string
}

export interface ThumbnailName {
  readonly source_key: ObjectKey
  readonly width: number
  readonly height: number
  readonly method: 'crop' | 'scale'
  readonly animated: boolean
}

export async function thumbnailOf(sql: ReadSql, name: ThumbnailName): Promise<StoredThumbnail | undefined> {
  const [row] = await sql<StoredThumbnail[]>`
    select t.object_key, t.content_type, t.size, o.sha256
    from media_thumbnails t join media_objects o using (object_key)
    where source_key = ${name.source_key} and width = ${name.width} and height = ${name.height}
      and method = ${name.method} and animated = ${name.animated}`
  return row
}

/** Which installation this is, for the store of media to name. */
export async function installationId(sql: ReadSql): Promise<string> {
  const [row] = await sql<{ installation_id: string }[]>`select installation_id::text from media_store`
  if (!row) throw new Error('the row of media_store is gone')
  return row.installation_id
}
