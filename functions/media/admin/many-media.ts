/** Administration of many media at once: of a user, of a room, by age and size.
 *  https://element-hq.github.io/synapse/latest/admin_api/media_admin_api.html */
import * as v from 'valibot'
import { type MediaId, type MediaName, mediaNamesMax } from '../../../shared/commands/media.ts'
import { RoomId, type ServerName, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import {
  mediaOfUser,
  mediaToPurge,
  mediaUrisInRoom,
  quarantinedMedia,
  selectedMedia,
  userMediaOrders,
} from '../../../shared/storage/media-admin.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { type MediaDeps, route } from '../deps.ts'
import { deleteInPortions, inPortions } from './in-portions.ts'
import { mediaAdminSpec, serverParams } from './one-medium.ts'
import { optionalNumber, pageQuery, timestamp } from './parameters.ts'

const declaration = { spec: mediaAdminSpec, auth: 'admin' } as const
const userParams = v.object({ userId: UserId })
const roomParams = v.object({ roomId: RoomId })
const base = '/_synapse/admin/v1'

const userQuery = v.object({ ...pageQuery, order_by: v.optional(v.picklist(keysOf(userMediaOrders)), 'created_ts') })

function keysOf<T extends object>(of: T): (keyof T & string)[] {
  return Object.keys(of) as (keyof T & string)[]
}

export const getUserMedia = route({
  ...declaration,
  method: 'GET',
  path: `${base}/users/:userId/media`,
  params: userParams,
  query: userQuery,
  async handle({ params: { userId }, query }, { sql, config }) {
    // Newest first, unless an order is asked for.
    const page = { ...query, dir: query.dir ?? (query.order_by === 'created_ts' ? 'b' : 'f') }
    const { media, total } = await mediaOfUser(sql, config.server_name, userId, page)
    const next = page.from + media.length
    return { media, total, ...(next < total && media.length > 0 ? { next_token: next } : {}) }
  },
})

export const deleteUserMedia = route({
  ...declaration,
  method: 'DELETE',
  path: `${base}/users/:userId/media`,
  params: userParams,
  handle: ({ params: { userId }, user }, deps) =>
    deleteInPortions(
      (after, limit) => selectedMedia(deps.sql, { origin: deps.config.server_name, user_id: userId }, after, limit),
      user.user_id,
      deps,
    ),
})

export const quarantineUserMedia = route({
  ...declaration,
  method: 'POST',
  path: `${base}/user/:userId/media/quarantine`,
  params: userParams,
  async handle({ params: { userId }, user }, deps) {
    const { sql, config } = deps
    let num_quarantined = 0
    await inPortions(
      (after, limit) => selectedMedia(sql, { origin: config.server_name, user_id: userId }, after, limit),
      async (media) => {
        num_quarantined += await quarantine(media, user.user_id, deps)
      },
    )
    return { num_quarantined }
  },
})

export const getRoomMedia = route({
  ...declaration,
  method: 'GET',
  path: `${base}/room/:roomId/media`,
  params: roomParams,
  async handle({ params: { roomId } }, { sql, config }) {
    const [local, remote]: [string[], string[]] = [[], []]
    for (const { origin, media_id } of await mediaInRoom(sql, roomId)) {
      const list = origin === config.server_name ? local : remote
      list.push(`mxc://${origin}/${media_id}`)
    }
    return { local, remote }
  },
})

const quarantineRoom = {
  ...declaration,
  method: 'POST',
  params: roomParams,
} as const
export const quarantineRoomMedia = route({
  ...quarantineRoom,
  path: `${base}/room/:roomId/media/quarantine`,
  handle: ({ params: { roomId }, user }, deps) => quarantineIn(roomId, user.user_id, deps),
})
/** Its older name. */
export const quarantineMediaOfRoom = route({
  ...quarantineRoom,
  path: `${base}/quarantine_media/:roomId`,
  handle: ({ params: { roomId }, user }, deps) => quarantineIn(roomId, user.user_id, deps),
})

/** Synapse has no such thing: what is in a room's messages, of this server and of others. */
export const deleteRoomMedia = route({
  ...declaration,
  method: 'DELETE',
  path: `${base}/room/:roomId/media`,
  params: roomParams,
  async handle({ params: { roomId }, user }, { sql, main }) {
    const media = await mediaInRoom(sql, roomId)
    await eachPart(media, (some) => main.deleteMedia({ media: some, deleted_by: user.user_id }))
    return { deleted_media: media.map((medium) => medium.media_id), total: media.length }
  },
})

const olderQuery = v.object({
  before_ts: timestamp,
  size_gt: optionalNumber,
  keep_profiles: v.optional(v.picklist(['true', 'false'])),
})
export const deleteOldMedia = route({
  ...declaration,
  method: 'POST',
  path: `${base}/media/delete`,
  query: olderQuery,
  handle: ({ query, user }, deps) => deleteOlder(deps.config.server_name, query, user.user_id, deps),
})
export const deleteOldMediaOf = route({
  ...declaration,
  method: 'POST',
  path: `${base}/media/:serverName/delete`,
  params: serverParams,
  query: olderQuery,
  handle({ params: { serverName }, query, user }, deps) {
    if (serverName !== deps.config.server_name) {
      throw new MatrixError(
        'M_INVALID_PARAM',
        'Only media of this server: for those of others there is purge_media_cache',
      )
    }
    return deleteOlder(serverName, query, user.user_id, deps)
  },
})

export const purgeMediaCache = route({
  ...declaration,
  method: 'POST',
  path: `${base}/purge_media_cache`,
  query: v.object({ before_ts: timestamp }),
  async handle({ query: { before_ts }, user }, deps) {
    const { total } = await deleteInPortions((_, limit) => mediaToPurge(deps.sql, before_ts, limit), user.user_id, deps)
    return { deleted: total }
  },
})

export const getQuarantined = route({
  ...declaration,
  method: 'GET',
  path: `${base}/media/quarantined`,
  query: v.object({ from: pageQuery.from, limit: pageQuery.limit, kind: v.picklist(['local', 'remote']) }),
  async handle({ query }, { sql, config }) {
    const media = await quarantinedMedia(sql, config.server_name, query)
    return { media: media.map(({ origin, media_id }) => `mxc://${origin}/${media_id}`) }
  },
})

function deleteOlder(
  origin: ServerName,
  { before_ts, size_gt, keep_profiles }: v.InferOutput<typeof olderQuery>,
  user_id: UserId,
  deps: MediaDeps,
) {
  const selection = {
    origin,
    lastAccessBefore: before_ts,
    keepProfiles: keep_profiles !== 'false',
    withoutProtected: true,
    ...(size_gt === undefined || size_gt === 0 ? {} : { largerThan: size_gt }),
  }
  return deleteInPortions((after, limit) => selectedMedia(deps.sql, selection, after, limit), user_id, deps)
}

async function quarantineIn(roomId: RoomId, user_id: UserId, deps: MediaDeps) {
  let num_quarantined = 0
  await eachPart(await mediaInRoom(deps.sql, roomId), async (some) => {
    num_quarantined += await quarantine(some, user_id, deps)
  })
  return { num_quarantined }
}

async function quarantine(media: MediaName[], quarantined_by: UserId, { main }: MediaDeps): Promise<number> {
  return (await main.quarantineMedia({ media, quarantined_by })).quarantined
}

async function eachPart(media: readonly MediaName[], work: (some: MediaName[]) => Promise<unknown>): Promise<void> {
  for (let i = 0; i < media.length; i += mediaNamesMax) await work(media.slice(i, i + mediaNamesMax))
}

async function mediaInRoom(sql: ReadSql, room_id: RoomId): Promise<MediaName[]> {
  const uris = new Set<string>()
  for await (const some of mediaUrisInRoom(sql, room_id)) for (const uri of some) uris.add(uri)
  return [...uris].map((uri) => {
    const [origin, media_id] = uri.slice('mxc://'.length).split('/')
    return { origin: origin as ServerName, media_id: media_id as MediaId }
  })
}
