/** Events, states and auth chains for servers that take part in their rooms.
 *  https://spec.matrix.org/v1.19/server-server-api/#retrieving-events */
import * as v from 'valibot'
import { assertServerInRoom, wiresFor } from '../../shared/federation/room-access.ts'
import { RawJson } from '../../shared/http/route.ts'
import { EventId, RoomId, type ServerName } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { answeredEvent, authEventsOf, eventsBetween, timelineUpTo } from '../../shared/storage/event-answers.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import { authChainOf, eventAt, eventIdsOf, stateBefore, wiresOf } from '../../shared/storage/state-answers.ts'
import { route } from './deps.ts'

/** Events in one answer. */
const backfillMax = 100
const missingMax = 20
/** Events that one question may name. */
const namedMax = 100

const read = { auth: 'server', limit: 'federation', sticky: 'origin' } as const
const ofRoom = v.object({ roomId: RoomId })
const atEvent = v.object({ event_id: EventId })

export const getEvent = route({
  ...read,
  method: 'GET',
  path: '/_matrix/federation/v1/event/:eventId',
  spec: 'server-server-api/#get_matrixfederationv1eventeventid',
  params: v.object({ eventId: EventId }),
  async handle({ params: { eventId }, origin }, { sql, config, clock }) {
    const event = await answeredEvent(sql, eventId)
    if (!event) throw new MatrixError('M_NOT_FOUND', 'There is no such event')
    await assertServerInRoom(sql, event.room_id, origin)
    const pdus = await wiresFor(sql, origin, [event])
    return new RawJson(transactionOf({ server_name: config.server_name, now: clock.now() }, pdus))
  },
})

export const getBackfill = route({
  ...read,
  method: 'GET',
  path: '/_matrix/federation/v1/backfill/:roomId',
  spec: 'server-server-api/#get_matrixfederationv1backfillroomid',
  params: ofRoom,
  query: v.object({ limit: v.pipe(v.string(), v.regex(/^\d{1,9}$/), v.transform(Number)) }),
  async handle({ params: { roomId }, query: { limit }, origin, request }, { sql, config, clock }) {
    const events = v.safeParse(
      v.pipe(v.array(EventId), v.minLength(1), v.maxLength(namedMax)),
      request.searchParams.getAll('v'),
    )
    if (!events.success) throw new MatrixError('M_INVALID_PARAM', `Expected 1 to ${namedMax} event ids in v`)
    await assertServerInRoom(sql, roomId, origin)
    const found = await timelineUpTo(sql, roomId, { events: events.output, limit: Math.min(limit, backfillMax) })
    const pdus = await wiresFor(sql, origin, found)
    return new RawJson(transactionOf({ server_name: config.server_name, now: clock.now() }, pdus))
  },
})

export const postMissingEvents = route({
  ...read,
  method: 'POST',
  path: '/_matrix/federation/v1/get_missing_events/:roomId',
  spec: 'server-server-api/#post_matrixfederationv1get_missing_eventsroomid',
  params: ofRoom,
  body: v.object({
    earliest_events: v.pipe(v.array(EventId), v.maxLength(namedMax)),
    latest_events: v.pipe(v.array(EventId), v.maxLength(namedMax)),
    limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 10),
    min_depth: v.optional(v.pipe(v.number(), v.integer()), 0),
  }),
  async handle({ params: { roomId }, body, origin }, { sql }) {
    await assertServerInRoom(sql, roomId, origin)
    const events = await eventsBetween(sql, roomId, {
      earliest: body.earliest_events,
      latest: body.latest_events,
      limit: Math.min(body.limit, missingMax),
      min_depth: body.min_depth,
    })
    return new RawJson(`{"events":[${(await wiresFor(sql, origin, events)).join(',')}]}`)
  },
})

export const getState = route({
  ...read,
  method: 'GET',
  path: '/_matrix/federation/v1/state/:roomId',
  spec: 'server-server-api/#get_matrixfederationv1stateroomid',
  params: ofRoom,
  query: atEvent,
  async handle({ params: { roomId }, query: { event_id }, origin }, { sql }) {
    const { state, chain } = await stateFor(sql, { room_id: roomId, event_id, origin })
    async function* pieces(): AsyncGenerator<string> {
      yield '{"pdus":['
      yield* joined(wiresOf(sql, state))
      yield '],"auth_chain":['
      yield* joined(wiresOf(sql, chain))
      yield ']}'
    }
    return new RawJson(pieces())
  },
})

export const getStateIds = route({
  ...read,
  method: 'GET',
  path: '/_matrix/federation/v1/state_ids/:roomId',
  spec: 'server-server-api/#get_matrixfederationv1state_idsroomid',
  params: ofRoom,
  query: atEvent,
  async handle({ params: { roomId }, query: { event_id }, origin }, { sql }) {
    const { state, chain } = await stateFor(sql, { room_id: roomId, event_id, origin })
    return { pdu_ids: await eventIdsOf(sql, state), auth_chain_ids: await eventIdsOf(sql, chain) }
  },
})

export const getEventAuth = route({
  ...read,
  method: 'GET',
  path: '/_matrix/federation/v1/event_auth/:roomId/:eventId',
  spec: 'server-server-api/#get_matrixfederationv1event_authroomideventid',
  params: v.object({ roomId: RoomId, eventId: EventId }),
  async handle({ params: { roomId, eventId }, origin }, { sql }) {
    const rules = await assertServerInRoom(sql, roomId, origin)
    const event = await answeredEvent(sql, eventId)
    if (event?.room_id !== roomId) throw new MatrixError('M_NOT_FOUND', 'There is no such event in the room')
    const named = await authEventsOf(sql, rules, event)
    const chain = [...new Set([...named, ...(await authChainOf(sql, named))])]
    async function* pieces(): AsyncGenerator<string> {
      yield '{"auth_chain":['
      yield* joined(wiresOf(sql, chain))
      yield ']}'
    }
    return new RawJson(pieces())
  },
})

/** The state before the event, and all that it rests on. */
async function stateFor(
  sql: ReadSql,
  { room_id, event_id, origin }: { readonly room_id: RoomId; readonly event_id: EventId; readonly origin: ServerName },
): Promise<{ readonly state: readonly number[]; readonly chain: readonly number[] }> {
  await assertServerInRoom(sql, room_id, origin)
  const event = await eventAt(sql, room_id, event_id)
  if (!event || event.state_root === 0)
    throw new MatrixError('M_NOT_FOUND', 'The state at that event is not known here')
  const state = [...(await stateBefore(sql, event)).values()]
  const stated = new Set(state)
  const chain = (await authChainOf(sql, state)).filter((nid) => !stated.has(nid))
  return { state, chain }
}

function transactionOf(
  { server_name, now }: { readonly server_name: ServerName; readonly now: number },
  pdus: readonly string[],
): string {
  return `{"origin":${JSON.stringify(server_name)},"origin_server_ts":${now},"pdus":[${pdus.join(',')}]}`
}

async function* joined(texts: AsyncIterable<string>): AsyncGenerator<string> {
  let first = true
  for await (const text of texts) {
    yield first ? text : `,${text}`
    first = false
  }
}
