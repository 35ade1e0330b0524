/** What media take up, by user and in all, and what is not allowed. */
import * as v from 'valibot'
import { Sha256 } from '../../../shared/commands/media.ts'
import { blockedHashes, mediaStatus, usageOfUsers, usageOrders } from '../../../shared/storage/media-admin.ts'
import { route } from '../deps.ts'
import { mediaAdminSpec } from './one-medium.ts'
import { optionalNumber, pageQuery } from './parameters.ts'

const drops = 500

export const getMediaStatistics = route({
  method: 'GET',
  path: '/_synapse/admin/v1/statistics/users/media',
  spec: 'https://element-hq.github.io/synapse/latest/admin_api/statistics.html',
  auth: 'admin',
  query: v.object({
    ...pageQuery,
    order_by: v.optional(v.picklist(usageOrders), 'user_id'),
    from_ts: optionalNumber,
    until_ts: optionalNumber,
    search_term: v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(255))),
  }),
  async handle({ query }, { sql }) {
    const { from_ts = 0, until_ts, search_term } = query
    const page = { ...query, dir: query.dir ?? 'f' }
    const { users, total } = await usageOfUsers(sql, page, { from_ts, until_ts, search_term })
    const next = page.from + users.length
    return { users, total, ...(next < total && users.length > 0 ? { next_token: next } : {}) }
  },
})

/** The disk budget, what is taken of it, and what was deleted last: by whom, or why. */
export const getMediaStatus = route({
  method: 'GET',
  path: '/_synapse/admin/v1/ganglion/media',
  spec: mediaAdminSpec,
  auth: 'admin',
  async handle(_, { sql, config }) {
    return { ...(await mediaStatus(sql, drops)), disk_budget: config.media.disk_budget ?? null }
  },
})

const blocked = {
  spec: mediaAdminSpec,
  auth: 'admin',
  path: '/_synapse/admin/v1/ganglion/media/blocked/:sha256',
  params: v.object({ sha256: v.pipe(v.string(), v.toLowerCase(), Sha256) }),
} as const

export const getBlocked = route({
  method: 'GET',
  path: '/_synapse/admin/v1/ganglion/media/blocked',
  spec: mediaAdminSpec,
  auth: 'admin',
  query: v.object({ after: v.optional(v.string(), ''), limit: pageQuery.limit }),
  handle: async ({ query }, { sql }) => ({ blocked: await blockedHashes(sql, query) }),
})
export const putBlocked = route({
  ...blocked,
  method: 'PUT',
  body: v.object({ reason: v.optional(v.pipe(v.string(), v.maxLength(1_000))) }),
  emptyBody: true,
  handle: ({ params: { sha256 }, body: { reason }, user }, { main }) =>
    main.blockMediaHash({
      sha256,
      blocked: true,
      blocked_by: user.user_id,
      ...(reason === undefined ? {} : { reason: reason.toWellFormed() }),
    }),
})
export const deleteBlocked = route({
  ...blocked,
  method: 'DELETE',
  handle: ({ params: { sha256 }, user }, { main }) =>
    main.blockMediaHash({ sha256, blocked: false, blocked_by: user.user_id }),
})
