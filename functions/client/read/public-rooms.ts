/** The published room directory. https://spec.matrix.org/v1.19/client-server-api/#published-room-directory */
import * as v from 'valibot'
import { ServerName } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import {
  type DirectoryPlace,
  type DirectoryQuestion,
  type PublishedRoom,
  publishedRoomCount,
  publishedRooms,
} from '../../../shared/storage/directory.ts'
import { type ClientDeps, route } from '../deps.ts'
import { limitOf } from './parameters.ts'

const limits = { standard: 100, most: 500 }
const text = v.optional(v.string())
const spec = 'client-server-api/#get_matrixclientv3publicrooms'

export const getPublicRooms = route({
  method: 'GET',
  path: '/_matrix/client/v3/publicRooms',
  spec,
  auth: 'optional',
  limit: 'read',
  query: v.object({ limit: text, since: text, server: text }),
  async handle({ query: { limit, since, server }, user }, deps) {
    if (!user && !deps.config.rooms.public_list_without_login) {
      throw new MatrixError('M_MISSING_TOKEN', 'Log in to see the room directory')
    }
    ownDirectory(deps, server)
    return directoryPage(deps, since, { limit: limitOf(limit, limits) })
  },
})

const Body = v.object({
  limit: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  since: text,
  filter: v.optional(
    v.object({
      generic_search_term: v.optional(v.nullable(v.string())),
      room_types: v.optional(v.nullable(v.array(v.nullable(v.string())))),
    }),
  ),
  include_all_networks: v.optional(v.boolean()),
  third_party_instance_id: v.optional(v.nullable(v.string())),
})

export const postPublicRooms = route({
  method: 'POST',
  path: '/_matrix/client/v3/publicRooms',
  spec: 'client-server-api/#post_matrixclientv3publicrooms',
  auth: 'guest',
  limit: 'read',
  query: v.object({ server: text }),
  body: Body,
  emptyBody: true,
  async handle({ query: { server }, body }, deps) {
    ownDirectory(deps, server)
    // No bridged network keeps a directory here.
    if (body.third_party_instance_id) return { chunk: [], total_room_count_estimate: 0 }
    const { generic_search_term, room_types } = body.filter ?? {}
    return directoryPage(deps, body.since, {
      limit: Math.min(body.limit ?? limits.standard, limits.most),
      search: generic_search_term || undefined,
      room_types: room_types ?? undefined,
    })
  },
})

function ownDirectory({ config }: ClientDeps, server: string | undefined): void {
  if (!server || server === config.server_name) return
  if (!v.is(ServerName, server)) throw new MatrixError('M_INVALID_PARAM', 'Query parameter server is no server name')
  throw new MatrixError('M_NOT_FOUND', `The directory of ${server} cannot be reached from here`)
}

async function directoryPage({ sql }: ClientDeps, since: string | undefined, question: DirectoryQuestion) {
  const { limit } = question
  const from = since ? parseSince(since) : undefined
  // One more than the page holds tells whether there is a next page.
  const [found, count] = await Promise.all([
    publishedRooms(sql, { ...question, from, limit: limit + 1 }),
    publishedRoomCount(sql),
  ])
  const backwards = from?.side === 'before'
  const more = found.length > limit
  const page = backwards ? found.slice(more ? 1 : 0) : found.slice(0, limit)
  const first = page[0]
  const last = page.at(-1)
  return {
    chunk: page.map(publishedRoomJson),
    ...(last && (backwards || more) ? { next_batch: `n${place(last)}` } : {}),
    ...(first && (backwards ? more : from) ? { prev_batch: `b${place(first)}` } : {}),
    total_room_count_estimate: count,
  }
}

function place({ joined_members, room_nid }: DirectoryPlace): string {
  return `1_${joined_members}_${room_nid}`
}

function parseSince(token: string): DirectoryQuestion['from'] {
  const match = /^([nb])1_(\d{1,9})_(\d{1,15})$/.exec(token)
  if (!match) throw new MatrixError('M_INVALID_PARAM', 'Parameter since is not a token of this server')
  return {
    side: match[1] === 'n' ? 'after' : 'before',
    place: { joined_members: Number(match[2]), room_nid: Number(match[3]) },
  }
}

/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3publicrooms_response-200_publishedroomschunk */
function publishedRoomJson(room: PublishedRoom) {
  const { name, topic, canonical_alias, avatar_url, join_rule, room_type } = room
  return {
    room_id: room.room_id,
    num_joined_members: room.joined_members,
    world_readable: room.history_visibility === 'world_readable',
    guest_can_join: room.guest_access === 'can_join',
    ...(name ? { name } : {}),
    ...(topic ? { topic } : {}),
    ...(canonical_alias ? { canonical_alias } : {}),
    ...(avatar_url ? { avatar_url } : {}),
    ...(join_rule ? { join_rule } : {}),
    ...(room_type ? { room_type } : {}),
  }
}
