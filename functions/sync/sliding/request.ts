/** The body and the query of a sliding sync, in one form. Clients send what the unstable version of the proposal takes
 *  (`ranges`, pairs of required state, parameters in the query); what was accepted in the end (`range`, objects, parameters in
 *  the body) is taken as well.
 *  https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#request-body */
import * as v from 'valibot'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { PresenceState } from '../../../shared/streams/presence.ts'
import { timelineLimitMax } from '../sync-filter.ts'
import { type RequiredState, requiredFromObject, requiredFromPairs } from './required-state.ts'

const listsMax = 100
const subscriptionsMax = 100
const selectorsMax = 500
const rangesMax = 50
const nameCharactersMax = 64
const connectionCharactersMax = 255

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const Range = v.pipe(
  v.tuple([natural, natural]),
  v.check(([first, last]) => first <= last, 'a range ends before it begins'),
)
const Selector = v.object({ type: v.optional(v.string()), state_key: v.optional(v.string()) })
const Selectors = v.optional(v.pipe(v.array(Selector), v.maxLength(selectorsMax)))
const Pairs = v.pipe(v.array(v.tuple([v.string(), v.string()])), v.maxLength(selectorsMax))
const StateObject = v.object({ include: Selectors, exclude: Selectors, lazy_members: v.optional(v.boolean()) })
// Not a union: an object's schema takes any array.
const RequiredStateRequest = v.optional(
  v.lazy(
    (given): v.GenericSchema<unknown, v.InferOutput<typeof Pairs> | v.InferOutput<typeof StateObject>> =>
      Array.isArray(given) ? Pairs : StateObject,
  ),
  [],
)
const roomConfig = { timeline_limit: natural, required_state: RequiredStateRequest }

const roomTypes = v.nullish(v.array(v.nullable(v.string())))
const names = v.nullish(v.array(v.string()))
const flag = v.nullish(v.boolean())
const Filters = v.object({
  is_dm: flag,
  spaces: names,
  is_encrypted: flag,
  is_invite: flag,
  is_invited: flag,
  room_types: roomTypes,
  not_room_types: roomTypes,
  room_name_like: v.nullish(v.string()),
  tags: names,
  not_tags: names,
})
export type ListFilters = v.InferOutput<typeof Filters>

const List = v.object({
  ...roomConfig,
  ranges: v.optional(v.pipe(v.array(Range), v.maxLength(rangesMax))),
  range: v.optional(Range),
  slow_get_all_rooms: v.nullish(v.boolean()),
  filters: v.nullish(Filters),
})

const enabled = v.nullish(v.boolean(), false)
/** Rooms of these lists, and these subscribed rooms; `*` stands for all. */
const Scope = v.object({ enabled, lists: names, rooms: names })
export type Scope = v.InferOutput<typeof Scope>
const Threads = v.object({ enabled, include_roots: v.nullish(v.boolean(), false), limit: v.nullish(natural, 100) })
const Extensions = v.object({
  to_device: v.nullish(v.object({ enabled, limit: v.nullish(natural, 100), since: v.nullish(v.string()) })),
  e2ee: v.nullish(v.object({ enabled })),
  account_data: v.nullish(Scope),
  receipts: v.nullish(Scope),
  typing: v.nullish(Scope),
  threads: v.nullish(Threads),
  'io.element.msc4360.threads': v.nullish(Threads),
  'io.element.msc4308.thread_subscriptions': v.nullish(v.object({ enabled, limit: v.nullish(natural, 100) })),
})
export type ExtensionRequests = v.InferOutput<typeof Extensions>

const duration = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
export const SlidingBody = v.object({
  conn_id: v.nullish(v.pipe(v.string(), v.maxLength(connectionCharactersMax))),
  pos: v.nullish(v.string()),
  timeout: v.nullish(duration),
  set_presence: v.nullish(PresenceState),
  txn_id: v.nullish(v.string()),
  lists: v.nullish(v.record(v.pipe(v.string(), v.maxLength(nameCharactersMax)), List)),
  room_subscriptions: v.nullish(v.record(v.string(), v.object(roomConfig))),
  extensions: v.nullish(Extensions),
})
export const SlidingQuery = v.object({
  pos: v.optional(v.string()),
  timeout: v.optional(v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number))),
  set_presence: v.optional(PresenceState),
})

export interface RoomConfig {
  readonly limit: number
  readonly required: RequiredState
}

export interface ListRequest extends RoomConfig {
  readonly name: string
  /** First and last index, both included; undefined: all rooms. */
  readonly ranges: readonly (readonly [number, number])[] | undefined
  readonly filters: ListFilters | undefined
}

export interface SlidingRequest {
  readonly connection: string
  readonly pos: string | undefined
  readonly timeoutMs: number
  readonly presence: PresenceState
  readonly txn_id: string | undefined
  readonly lists: readonly ListRequest[]
  readonly subscriptions: ReadonlyMap<string, RoomConfig>
  readonly extensions: Partial<ExtensionRequests>
}

/** Throws M_INVALID_PARAM where more is asked for than one connection may. */
export function slidingRequest(
  body: v.InferOutput<typeof SlidingBody>,
  query: v.InferOutput<typeof SlidingQuery>,
  me: string,
): SlidingRequest {
  const lists = Object.entries(body.lists ?? {})
  const subscriptions = Object.entries(body.room_subscriptions ?? {})
  if (lists.length > listsMax) throw new MatrixError('M_INVALID_PARAM', `There may be ${listsMax} lists at most`)
  if (subscriptions.length > subscriptionsMax) {
    throw new MatrixError('M_INVALID_PARAM', `There may be ${subscriptionsMax} room_subscriptions at most`)
  }
  const config = (given: (typeof subscriptions)[number][1]): RoomConfig => ({
    limit: Math.min(given.timeline_limit, timelineLimitMax),
    required: isPairs(given.required_state)
      ? requiredFromPairs(given.required_state, me)
      : requiredFromObject(given.required_state, me),
  })
  return {
    connection: body.conn_id ?? '',
    pos: query.pos ?? body.pos ?? undefined,
    timeoutMs: query.timeout ?? body.timeout ?? 0,
    presence: query.set_presence ?? body.set_presence ?? 'online',
    txn_id: body.txn_id ?? undefined,
    lists: lists.map(([name, list]) => ({
      ...config(list),
      name,
      ranges: list.slow_get_all_rooms ? undefined : (list.ranges ?? (list.range && [list.range])),
      filters: list.filters ?? undefined,
    })),
    subscriptions: new Map(subscriptions.map(([room_id, given]) => [room_id, config(given)])),
    extensions: body.extensions ?? {},
  }
}

function isPairs(given: object): given is [string, string][] {
  return Array.isArray(given)
}
