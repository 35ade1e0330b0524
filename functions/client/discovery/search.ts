/** Search for messages, room names and topics. https://spec.matrix.org/v1.19/client-server-api/#server-side-search */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import { compileEventFilter, RoomEventFilter } from '../../../shared/core/filter.ts'
import { searchTerms } from '../../../shared/core/words.ts'
import { RawJson } from '../../../shared/http/route.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import {
  countMatches,
  kindOfType,
  replacedRooms,
  type SearchedRoom,
  type SearchKind,
  searchedKeys,
  searchedRooms,
} from '../../../shared/storage/event-search.ts'
import { type ClientDeps, route } from '../deps.ts'
import { eventsJson } from '../read/rendering.ts'
import { indexCaughtUp } from './caught-up.ts'
import { ContextWish, contextJson } from './search-context.ts'
import { type GroupKey, groupsJson, roomStates } from './search-extras.ts'
import { type Match, matchPage, type SearchPlace } from './search-matches.ts'

/** With context each result takes several reads. */
const limits = { standard: 10, most: 100, mostWithContext: 20 }
const termsMax = 20
const roomsMax = 10_000
const upgradesMax = 20
const countMax = 10_000

const Criteria = v.object({
  search_term: v.string(),
  keys: v.optional(v.array(v.picklist(['content.body', 'content.name', 'content.topic']))),
  filter: v.optional(RoomEventFilter, {}),
  order_by: v.optional(v.picklist(['recent', 'rank']), 'rank'),
  event_context: v.optional(ContextWish),
  include_state: v.optional(v.boolean(), false),
  groupings: v.optional(
    v.object({ group_by: v.optional(v.array(v.object({ key: v.picklist(['room_id', 'sender']) })), []) }),
  ),
})
type Criteria = v.InferOutput<typeof Criteria>

export const searchEvents = route({
  method: 'POST',
  path: '/_matrix/client/v3/search',
  spec: 'client-server-api/#post_matrixclientv3search',
  auth: 'user',
  limit: 'read',
  query: v.object({ next_batch: v.optional(v.string()) }),
  body: v.object({ search_categories: v.object({ room_events: v.optional(Criteria) }) }),
  async handle({ query: { next_batch }, body, user }, deps) {
    const criteria = body.search_categories.room_events
    if (!criteria) return { search_categories: {} }
    await indexCaughtUp(deps, 'messages')
    return resultsOf(deps, user, criteria, next_batch ? parseToken(next_batch, criteria.order_by) : undefined)
  },
})

async function resultsOf(deps: ClientDeps, user: Requester, criteria: Criteria, from: Token | undefined) {
  const { filter, order_by, event_context } = criteria
  // Rooms are chosen below; those that were replaced by one that is asked for count with it.
  const { rooms: _, ...rest } = filter
  const compiled = compileEventFilter(rest)
  const terms = searchTerms(criteria.search_term, termsMax)
  const kinds = kindsOf(criteria)
  const rooms = (await roomsOf(deps, user, filter)).filter((room) => !from?.room || room.room_nid === from.room)
  if (terms.length === 0 || kinds.length === 0 || rooms.length === 0 || compiled.passesNone) return new RawJson(nothing)

  const { senders, not_senders } = filter
  const question = { rooms, terms, kinds, senders, not_senders }
  const now = deps.replication.positions().events
  const most = event_context ? limits.mostWithContext : limits.most
  const limit = Math.min(filter.limit || limits.standard, most)
  const [page, count] = await Promise.all([
    matchPage(deps, {
      user: user.user_id,
      question,
      filter: compiled,
      order: order_by,
      from: from?.place ?? { upTo: now, offset: 0 },
      limit,
    }),
    countMatches(deps.sql, { ...question, upTo: now }, countMax),
  ])
  const { matches, next } = page
  const tokenIn = (room: number) =>
    next && `${order_by === 'recent' ? 'r' : 'k'}1_${next.upTo}_${next.offset}_${from?.room ?? room}`
  const groupKeys = (criteria.groupings?.group_by ?? []).map(({ key }): GroupKey => key)
  const highlights = new Set(matches.flatMap((match) => [...match.words]))

  return new RawJson(
    (async function* () {
      yield `{"search_categories":{"room_events":{"count":${count},"highlights":${JSON.stringify([...highlights])}`
      if (next) yield `,"next_batch":"${tokenIn(0)}"`
      if (groupKeys.length > 0) {
        const grouped = groupsJson(matches, groupKeys, order_by === 'recent' ? tokenIn : () => undefined)
        yield `,"groups":${grouped}`
      }
      yield ',"results":['
      let before = ''
      for (const match of matches) {
        yield before + (await resultJson(deps, user, match, event_context))
        before = ','
      }
      yield ']'
      if (criteria.include_state) yield* roomStates(deps, user, matches)
      yield '}}}'
    })(),
  )
}

const nothing = '{"search_categories":{"room_events":{"count":0,"highlights":[],"results":[]}}}'

async function resultJson(deps: ClientDeps, user: Requester, match: Match, wish: ContextWish | undefined) {
  const [event] = await eventsJson(deps, match.view, [match.seen], user)
  const context = wish ? `,"context":${await contextJson(deps, user, match, wish)}` : ''
  return `{"rank":${match.rank},"result":${event}${context}}`
}

function kindsOf({ keys, filter }: Criteria): readonly SearchKind[] {
  const { matches } = compileEventFilter({ types: filter.types, not_types: filter.not_types })
  const types = ['m.room.message', 'm.room.name', 'm.room.topic']
  return types.flatMap((type) => {
    const kind = kindOfType(type)
    if (kind === undefined || (keys && !keys.includes(`content.${searchedKeys[kind]}`))) return []
    return matches({ type }) ? [kind] : []
  })
}

async function roomsOf(
  { sql }: ClientDeps,
  { user_id }: Requester,
  { rooms: asked, not_rooms }: Criteria['filter'],
): Promise<readonly SearchedRoom[]> {
  const [own, wanted] = await Promise.all([
    searchedRooms(sql, user_id, roomsMax),
    asked && replacedRooms(sql, asked, upgradesMax),
  ])
  const without = new Set<string>(not_rooms)
  const only = wanted && new Set<string>([...(asked ?? []), ...wanted])
  return own.filter(({ room_id }) => !without.has(room_id) && (!only || only.has(room_id)))
}

interface Token {
  readonly place: SearchPlace
  /** 0: every room. */
  readonly room: number
}

/** `r1_` for what is ordered by time, `k1_` for rank; position, offset, and the room of a group's own page. */
function parseToken(token: string, order: 'recent' | 'rank'): Token {
  const match = /^([rk])1_(\d{1,15})_(\d{1,9})_(\d{1,15})$/.exec(token)
  if (!match || (match[1] === 'r') !== (order === 'recent')) {
    throw new MatrixError('M_INVALID_PARAM', 'Query parameter next_batch is not a token of this search')
  }
  return { place: { upTo: Number(match[2]), offset: Number(match[3]) }, room: Number(match[4]) }
}
