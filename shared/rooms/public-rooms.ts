/** The published room directory. https://spec.matrix.org/v1.19/client-server-api/#published-room-directory */
import * as v from 'valibot'
import { MatrixError } from '../matrix/matrix-error.ts'
import {
  type DirectoryPlace,
  type DirectoryQuestion,
  type PublishedRoom,
  publishedRoomCount,
  publishedRooms,
} from '../storage/directory.ts'
import type { ReadSql } from '../storage/sql.ts'

export const directoryLimits = { standard: 100, most: 500 }
const text = v.optional(v.string())

/** How clients and other servers ask for a part of the directory. */
export const DirectoryBody = v.object({
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

export type DirectoryBody = v.InferOutput<typeof DirectoryBody>

/** What such a body asks for. */
export function searchOfDirectory(sql: ReadSql, body: DirectoryBody) {
  const { generic_search_term, room_types } = body.filter ?? {}
  return directoryPage(sql, body.since, {
    limit: Math.min(body.limit ?? directoryLimits.standard, directoryLimits.most),
    search: generic_search_term || undefined,
    room_types: room_types ?? undefined,
  })
}

/** A page of this server's directory, from that token on. Throws M_INVALID_PARAM for what is none. */
export async function directoryPage(sql: ReadSql, since: string | undefined, question: DirectoryQuestion) {
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
