/** The stream of events of clients from before GET /sync. https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3events */
import * as v from 'valibot'
import type { Requester } from '../../shared/auth/requester.ts'
import { RawJson, type RequestInfo } from '../../shared/http/route.ts'
import { RoomId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { memberEventsByNid } from '../../shared/storage/members.ts'
import { roomsOfUser } from '../../shared/storage/sync-rooms.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import { encodeSyncToken, parseSyncToken } from '../../shared/streams/token.ts'
import { clientEventJson } from '../../shared/timeline/client-json.ts'
import { createRoomReader, type RoomReader, type RoomView } from '../../shared/timeline/room-reader.ts'
import { timelinePage } from '../../shared/timeline/timeline-page.ts'
import { route, type SyncDeps } from './deps.ts'
import { oldToken, syncAnswer } from './old-sync.ts'

const timeoutMaxMs = 120_000
/** Of one room in one answer; what is more is passed over, as by a sync that is limited. */
const eventsPerRoom = 500

export const getEvents = route({
  method: 'GET',
  path: '/_matrix/client/v3/events',
  spec: 'client-server-api/#get_matrixclientv3events',
  auth: 'guest',
  sticky: 'user',
  query: v.object({
    from: v.optional(v.string()),
    timeout: v.optional(v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number))),
    /** A room that the user is not in, and that all the world may read. */
    room_id: v.optional(RoomId),
  }),
  async handle({ query, user, request }, deps) {
    const from = query.from ? parseSyncToken(query.from, 'from') : { ...deps.replication.positions() }
    const ahead = deps.replication.reach?.(from)
    if (ahead) await ahead
    const timeoutMs = Math.min(query.timeout ?? 0, timeoutMaxMs)
    if (query.room_id !== undefined) {
      const view = await readerOf(deps).open(query.room_id, user.user_id)
      if (view.membership !== 'join') return peek(deps, user, { view, from, timeoutMs, request })
    }
    return eventsSince(deps, user, { from, timeoutMs, request })
  },
})

interface Asked {
  readonly from: StreamPositions
  readonly timeoutMs: number
  readonly request: RequestInfo
}

/** A sync tells what has changed, and waits until something has; the events are read anew, so that none is left out where
 *  a sync's timeline is cut. */
async function eventsSince(deps: SyncDeps, user: Requester, { from, timeoutMs, request }: Asked): Promise<RawJson> {
  const start = oldToken(from)
  const since = encodeSyncToken({ ...from, to_device: deps.replication.positions().to_device })
  const answer = await syncAnswer(deps, { user, request, query: { since, timeout: timeoutMs } })
  const { join = {}, leave = {}, invite = {} } = answer.rooms ?? {}
  const next = parseSyncToken(answer.next_batch)
  const upTo = next.events
  return new RawJson(
    (async function* () {
      yield `{"start":"${start}","end":"${oldToken(next)}","chunk":[`
      let before = ''
      const listed = (events: readonly string[]) => {
        const json = events.length === 0 ? '' : before + events.join(',')
        if (events.length > 0) before = ','
        return json
      }
      yield listed([...(answer.presence?.events ?? []), ...(answer.account_data?.events ?? [])].map(text))
      yield listed(await invitesTo(deps, user, new Set(Object.keys(invite))))
      for (const [room_id, room] of Object.entries({ ...join, ...leave })) {
        const beside = [...(room.ephemeral?.events ?? []), ...(room.account_data?.events ?? [])]
        yield listed(beside.map((event) => text({ ...event, room_id })))
        const view = await readerOf(deps)
          .open(room_id as RoomId, user.user_id)
          .catch(forgotten)
        if (view) yield listed(await eventsOf(deps, user, view, { after: from.events, upTo }))
      }
      yield ']}'
    })(),
  )
}

async function invitesTo(deps: SyncDeps, user: Requester, rooms: ReadonlySet<string>): Promise<string[]> {
  if (rooms.size === 0) return []
  const invited = (await roomsOfUser(deps.sql, user.user_id)).filter(
    ({ membership, room_id }) => membership === 'invite' && rooms.has(room_id),
  )
  const events = await memberEventsByNid(
    deps.sql,
    invited.map((room) => room.event_nid),
  )
  const now = deps.clock.now()
  return [...events.values()].map((event) => clientEventJson(event, user, { now, roomId: true }))
}

/** Waits for the events of one room. */
async function peek(
  deps: SyncDeps,
  user: Requester,
  { view, from, timeoutMs, request }: Asked & { readonly view: RoomView },
): Promise<RawJson> {
  const deadline = deps.clock.now() + timeoutMs
  for (;;) {
    const upTo = { ...deps.replication.positions() }
    const news = nextEvent(deps, view.room_id, deadline - deps.clock.now(), request.signal)
    try {
      const range = { after: from.events, upTo: upTo.events }
      const chunk = await eventsOf(deps, user, { ...view, upTo: upTo.events }, range)
      if (chunk.length > 0 || deps.clock.now() >= deadline || request.signal.aborted) {
        return new RawJson(`{"start":"${oldToken(from)}","end":"${oldToken(upTo)}","chunk":[${chunk.join(',')}]}`)
      }
      await news.heard
    } finally {
      news.end()
    }
  }
}

/** Listens from now on; `heard` resolves with the first event of the room, when the time is over, or the client is gone. */
function nextEvent(deps: SyncDeps, room_id: RoomId, timeoutMs: number, signal: AbortSignal) {
  const { promise: heard, resolve } = Promise.withResolvers<void>()
  const off = deps.replication.subscribe('events', ({ rows }) => {
    if (rows.some((row) => row.room_id === room_id)) resolve()
  })
  const cancel = deps.clock.after(Math.max(0, timeoutMs), resolve)
  const gone = () => resolve()
  signal.addEventListener('abort', gone)
  return {
    heard,
    end() {
      off()
      cancel()
      signal.removeEventListener('abort', gone)
    },
  }
}

async function eventsOf(
  deps: SyncDeps,
  user: Requester,
  view: RoomView,
  range: { readonly after: number; readonly upTo: number },
): Promise<string[]> {
  const page = { range, direction: 'f', limit: eventsPerRoom } as const
  const { seen } = await timelinePage(deps.sql, readerOf(deps), view, page)
  const now = deps.clock.now()
  return seen.map(({ event, membership }) => clientEventJson(event, user, { now, roomId: true, membership }))
}

const readers = new WeakMap<object, RoomReader>()

function readerOf(deps: SyncDeps): RoomReader {
  const known = readers.get(deps.replication)
  if (known) return known
  const made = createRoomReader(deps)
  readers.set(deps.replication, made)
  return made
}

function text(event: JsonObject): string {
  return JSON.stringify(event)
}

function forgotten(error: unknown): undefined {
  if (error instanceof MatrixError && error.errcode === 'M_FORBIDDEN') return undefined
  throw error
}
