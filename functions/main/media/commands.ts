/** Media: the commands. What they decide, the functions of migration 0020 decide, by the rows alone, one at a time; so it does not
 *  matter which main runs them, or how often. */
import type { Clock } from '../../../shared/clock.ts'
import type { mediaCommands } from '../../../shared/commands/media.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type MainSql, pgText } from '../../../shared/storage/sql.ts'
import type { Committer } from '../persist/writes.ts'
import type { MediaSweep } from './sweep.ts'

export interface MediaCommandDeps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  readonly config: Pick<Config, 'media'>
  readonly sweep: Pick<MediaSweep, 'soon' | 'makeRoom'>
}

/** Writers say much more often that they live. */
const reservedMs = 60_000
/** Between two notes on one medium's use. */
const accessNotedMs = 3_600_000

type Refusal = 'lost' | 'taken' | 'unknown' | 'foreign' | 'blocked' | 'quota'

export function mediaHandlers(deps: MediaCommandDeps): Pick<MainClient, keyof typeof mediaCommands> {
  const { sql, committer, clock, sweep } = deps
  const { media: settings } = deps.config

  return {
    async createMedia({ origin, media_id, user_id }) {
      const now = clock.now()
      const [made] = await sql<{ pending: number; expires_ts: number | null }[]>`
        select (select count(*)::integer from media
            where user_id = ${user_id} and object_key is null and expires_ts > ${now} and media_id <> ${media_id}) as pending,
          (select expires_ts from media where origin = ${origin} and media_id = ${media_id}) as expires_ts`
      if (typeof made?.expires_ts === 'number') return { expires_ts: made.expires_ts }
      if (made && made.pending >= settings.pending_per_user) {
        throw new MatrixError('M_LIMIT_EXCEEDED', `${made.pending} of your media still wait for their upload`)
      }
      const expires_ts = now + settings.unused_expiry
      await sql`
        insert into media (origin, media_id, kind, user_id, created_ts, last_access_ts, expires_ts, authenticated)
        values (${origin}, ${media_id}, 'upload', ${user_id}, ${now}, ${now}, ${expires_ts},
          ${settings.freeze_unauthenticated})
        on conflict do nothing`
      return { expires_ts }
    },

    async reserveMediaObject({ object_key, size }) {
      const reserve = async () => {
        const [row] = await sql<{ reserved: boolean }[]>`
          select media_reserve(${object_key}, ${size}, ${clock.now() + reservedMs},
            ${settings.disk_budget ?? null}) as reserved`
        return row?.reserved === true
      }
      if ((await reserve()) || ((await sweep.makeRoom(size)) && (await reserve()))) return {}
      throw new MatrixError('M_FORBIDDEN', 'The server has no room for more media')
    },

    async keepMediaObjects({ object_keys }) {
      await sql`
        update media_objects set reserved_until = ${clock.now() + reservedMs}
        where object_key = any(${sql.array(object_keys, 25)}::text[]) and sha256 is null and doomed_ts is null`
      return {}
    },

    async abandonMediaObject({ object_key }) {
      await sql`
        update media_objects set doomed_ts = ${clock.now()}
        where object_key = ${object_key} and sha256 is null and doomed_ts is null`
      sweep.soon()
      return {}
    },

    async completeMedia(medium) {
      const { origin, media_id, user_id, size } = medium
      const now = clock.now()
      const { user_quota, user_quota_period } = settings
      const [row] = await sql<{ outcome: 'done' | Refusal }[]>`
        select media_complete(${medium.object_key}, ${medium.sha256}, ${size}, ${origin}, ${media_id}, ${medium.kind},
          ${user_id ?? null}, ${medium.ahead}, ${pgText(medium.content_type)},
          ${medium.upload_name === undefined ? null : pgText(medium.upload_name)}, ${settings.freeze_unauthenticated},
          ${now}, ${medium.kind === 'upload' ? (user_quota ?? null) : null},
          ${user_quota_period === undefined ? 0 : now - user_quota_period}) as outcome`
      const outcome = row?.outcome ?? 'lost'
      if (outcome !== 'done') throw refusalOf(outcome)
      // Who waits for it, at whichever handler, is woken.
      if (medium.ahead) await committer.commit({ invalidations: [{ cache: 'media', key: `${origin}/${media_id}` }] })
      return {}
    },

    async completeThumbnail(thumbnail) {
      const { object_key, sha256, size, source_key, width, height, method, animated, content_type } = thumbnail
      const [row] = await sql<{ object_key: typeof object_key | null }[]>`
        select media_complete_thumbnail(${object_key}, ${sha256}, ${size}, ${source_key}, ${width}, ${height}, ${method},
          ${animated}, ${content_type}, ${clock.now()}) as object_key`
      return { object_key: row?.object_key ?? null }
    },

    async noteMediaAccess({ media }) {
      const now = clock.now()
      await sql`
        update media m set last_access_ts = ${now} from ${named(media)}
        where m.origin = named.origin and m.media_id = named.media_id and m.last_access_ts < ${now - accessNotedMs}`
      return {}
    },

    async deleteMedia({ media, deleted_by }) {
      const { origins, ids } = columns(media)
      await sql`
        select count(*) from media_delete(${sql.array(origins, 25)}::text[], ${sql.array(ids, 25)}::text[],
          ${deleted_by}, ${clock.now()})`
      sweep.soon()
      return {}
    },

    async quarantineMedia({ media, quarantined_by }) {
      const { origins, ids } = columns(media)
      const [row] = await sql<{ quarantined: number }[]>`
        select media_quarantine(${sql.array(origins, 25)}::text[], ${sql.array(ids, 25)}::text[],
          ${quarantined_by}) as quarantined`
      return { quarantined: row?.quarantined ?? 0 }
    },

    async unquarantineMedia({ media }) {
      await sql`
        update media m set quarantined_by = null
        where (m.origin, m.media_id) in (select origin, media_id from ${named(media)})
          or m.sha256 in (select o.sha256 from media o join ${named(media)} on o.origin = named.origin
            and o.media_id = named.media_id)`
      return {}
    },

    async protectMedia({ origin, media_id, protected: keeps }) {
      const { count } = await sql`
        update media set protected = ${keeps} where origin = ${origin} and media_id = ${media_id}`
      if (count === 0) throw new MatrixError('M_NOT_FOUND', 'There is no such medium')
      return {}
    },

    async blockMediaHash({ sha256, blocked, blocked_by, reason }) {
      if (blocked) {
        await sql`
          insert into media_blocked_hashes (sha256, reason, blocked_by, blocked_ts)
          values (${sha256}, ${reason === undefined ? null : pgText(reason)}, ${blocked_by}, ${clock.now()})
          on conflict do nothing`
      } else await sql`delete from media_blocked_hashes where sha256 = ${sha256}`
      return {}
    },
  }

  function columns(media: readonly { readonly origin: string; readonly media_id: string }[]) {
    return { origins: media.map((medium) => medium.origin), ids: media.map((medium) => medium.media_id) }
  }

  function named(media: readonly { readonly origin: string; readonly media_id: string }[]) {
    const { origins, ids } = columns(media)
    return sql`unnest(${sql.array(origins, 25)}::text[], ${sql.array(ids, 25)}::text[]) as named (origin, media_id)`
  }
}

function refusalOf(refusal: Refusal): MatrixError {
  switch (refusal) {
    case 'taken':
      return new MatrixError('M_CANNOT_OVERWRITE_MEDIA', 'This mxc:// URI has its content already')
    case 'unknown':
      return new MatrixError('M_NOT_FOUND', 'This mxc:// URI was not made for an upload, or has expired')
    case 'foreign':
      return new MatrixError('M_FORBIDDEN', 'This mxc:// URI was made by another user')
    case 'blocked':
      return new MatrixError('M_FORBIDDEN', 'This file is not allowed on this server')
    case 'quota':
      return new MatrixError(
        'M_FORBIDDEN',
        'You have uploaded as much as you may: delete something, or ask the administrators',
      )
    case 'lost':
      return new MatrixError('M_UNAVAILABLE', 'The upload took too long to be stored; try again')
  }
}
