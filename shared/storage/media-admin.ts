/** What administrators look at of media. */
import type { MediaName } from '../commands/media.ts'
import type { RoomId, ServerName, UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

export interface UserMedium {
  readonly media_id: string
  readonly media_type: string | null
  readonly media_length: number | null
  readonly upload_name: string | null
  readonly created_ts: number
  readonly last_access_ts: number
  readonly quarantined_by: UserId | null
  readonly safe_from_quarantine: boolean
}

/** By what a list of a user's media may be ordered, and the column that stands for it. */
export const userMediaOrders = {
  media_id: 'media_id',
  upload_name: 'upload_name',
  created_ts: 'created_ts',
  last_access_ts: 'last_access_ts',
  media_length: 'size',
  media_type: 'content_type',
  quarantined_by: 'quarantined_by',
  safe_from_quarantine: 'protected',
} as const

export interface Page<Order> {
  readonly from: number
  readonly limit: number
  readonly order_by: Order
  readonly dir: 'f' | 'b'
}

export async function mediaOfUser(
  sql: ReadSql,
  origin: ServerName,
  user_id: UserId,
  page: Page<keyof typeof userMediaOrders>,
): Promise<{ readonly media: readonly UserMedium[]; readonly total: number }> {
  const column = sql(userMediaOrders[page.order_by])
  const direction = page.dir === 'f' ? sql`asc` : sql`desc`
  const [counted] = await sql<{ total: number }[]>`
    select count(*)::integer as total from media where user_id = ${user_id} and origin = ${origin}`
  const media = await sql<UserMedium[]>`
    select media_id, content_type as media_type, size as media_length, upload_name, created_ts, last_access_ts,
      quarantined_by, protected as safe_from_quarantine
    from media where user_id = ${user_id} and origin = ${origin}
    order by ${column} ${direction} nulls last, media_id limit ${page.limit} offset ${page.from}`
  const texts = (text: string | null) => (text === null ? null : fromPgText(text))
  return {
    media: media.map((row) => ({ ...row, media_type: texts(row.media_type), upload_name: texts(row.upload_name) })),
    total: counted?.total ?? 0,
  }
}

/** Which media are meant: those of a user, and those that are old and large. */
export interface MediaSelection {
  readonly origin: ServerName
  readonly user_id?: UserId
  readonly lastAccessBefore?: number
  readonly largerThan?: number
  /** Pictures of users and rooms are left out. */
  readonly keepProfiles?: boolean
  readonly withoutProtected?: boolean
}

/** Names after the one given, in order. */
export async function selectedMedia(
  sql: ReadSql,
  selection: MediaSelection,
  after: string,
  limit: number,
): Promise<readonly MediaName[]> {
  const { origin, user_id, lastAccessBefore, largerThan, keepProfiles, withoutProtected } = selection
  return sql<MediaName[]>`
    select origin, media_id from media m
    where origin = ${origin} and media_id > ${after}
      ${user_id === undefined ? sql`` : sql`and user_id = ${user_id}`}
      ${lastAccessBefore === undefined ? sql`` : sql`and last_access_ts < ${lastAccessBefore}`}
      ${largerThan === undefined ? sql`` : sql`and size > ${largerThan}`}
      ${withoutProtected ? sql`and not protected` : sql``}
      ${
        keepProfiles
          ? sql`and not exists (select from profiles p where p.avatar_url = 'mxc://' || m.origin || '/' || m.media_id)
              and not exists (
                select from room_summaries r where r.avatar_url = 'mxc://' || m.origin || '/' || m.media_id)`
          : sql``
      }
    order by media_id limit ${limit}`
}

/** Names of remote media and pictures of previews that nobody has fetched since. */
export async function mediaToPurge(sql: ReadSql, before: number, limit: number): Promise<readonly MediaName[]> {
  return sql<MediaName[]>`
    select origin, media_id from media
    where kind in ('remote', 'preview') and object_key is not null and not protected and last_access_ts < ${before}
    order by last_access_ts limit ${limit}`
}

/** Texts of mxc:// URIs in a room's events that can be read, some events at a time. */
export async function* mediaUrisInRoom(sql: ReadSql, room_id: RoomId): AsyncGenerator<readonly string[]> {
  let after = 0
  for (;;) {
    const rows = await sql<{ position: number; content: string }[]>`
      select position, content from (
        select position, content from events
        where room_nid = (select room_nid from rooms where room_id = ${room_id}) and position > ${after}
        order by position limit ${eventsAtOnce}) as some
      order by position`
    const last = rows.at(-1)
    if (!last) return
    after = last.position
    yield rows.flatMap(({ content }) => content.match(mxcUri) ?? [])
  }
}
const eventsAtOnce = 1_000
const mxcUri = /mxc:\/\/[A-Za-z0-9.:[\]-]{1,255}\/[A-Za-z0-9_-]{1,255}/g

export async function quarantinedMedia(
  sql: ReadSql,
  origin: ServerName,
  { kind, from, limit }: { readonly kind: 'local' | 'remote'; readonly from: number; readonly limit: number },
): Promise<readonly MediaName[]> {
  return sql<MediaName[]>`
    select m.origin, m.media_id from media m
    where quarantined_by is not null and (origin = ${origin}) = ${kind === 'local'}
    order by origin, media_id limit ${limit} offset ${from}`
}

export interface MediaUsage {
  readonly user_id: UserId
  readonly displayname: string | null
  readonly media_count: number
  readonly media_length: number
}
export const usageOrders = ['user_id', 'displayname', 'media_length', 'media_count'] as const

export async function usageOfUsers(
  sql: ReadSql,
  page: Page<(typeof usageOrders)[number]>,
  filter: { readonly from_ts: number; readonly until_ts: number | undefined; readonly search_term: string | undefined },
): Promise<{ readonly users: readonly MediaUsage[]; readonly total: number }> {
  const direction = page.dir === 'f' ? sql`asc` : sql`desc`
  const wanted = filter.search_term === undefined ? undefined : `%${filter.search_term.replace(/[\\%_]/g, '\\$&')}%`
  const rows = await sql<(MediaUsage & { total: number })[]>`
    select user_id, display_name as displayname, count(*)::integer as media_count,
      coalesce(sum(size), 0)::bigint as media_length, (count(*) over ())::integer as total
    from media left join profiles using (user_id)
    where user_id is not null and object_key is not null and created_ts >= ${filter.from_ts}
      ${filter.until_ts === undefined ? sql`` : sql`and created_ts <= ${filter.until_ts}`}
      ${wanted === undefined ? sql`` : sql`and (user_id ilike ${wanted} or display_name ilike ${wanted})`}
    group by user_id, display_name
    order by ${sql(page.order_by)} ${direction} nulls last, user_id limit ${page.limit} offset ${page.from}`
  const users = rows.map(({ total: _, ...user }) => ({
    ...user,
    displayname: user.displayname === null ? null : fromPgText(user.displayname),
  }))
  return { users, total: rows[0]?.total ?? 0 }
}

export interface MediaDrop {
  readonly dropped_ts: number
  readonly reason: string
  readonly origin: string
  readonly media_id: string
  readonly size: number
}

/** What the store may hold, and what was deleted last, newest first. */
export async function mediaStatus(sql: ReadSql, dropsMax: number) {
  const [totals] = await sql<{ bytes: number; objects: number; compared_ts: number }[]>`
    select bytes, objects, compared_ts from media_totals`
  const drops = await sql<MediaDrop[]>`
    select dropped_ts, reason, origin, media_id, size from media_drops order by drop_id desc limit ${dropsMax}`
  return { ...(totals ?? { bytes: 0, objects: 0, compared_ts: 0 }), drops }
}

export async function blockedHashes(sql: ReadSql, page: { readonly after: string; readonly limit: number }) {
  const rows = await sql<{ sha256: string; reason: string | null; blocked_by: UserId; blocked_ts: number }[]>`
    select sha256, reason, blocked_by, blocked_ts from media_blocked_hashes
    where sha256 > ${page.after} order by sha256 limit ${page.limit}`
  return rows.map((row) => ({ ...row, reason: row.reason === null ? null : fromPgText(row.reason) }))
}
