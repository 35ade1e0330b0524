/** Delayed events, MSC4140: scheduled now, sent by the server later, unless they are restarted or cancelled before.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/4140 */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import { Content } from '../../../shared/commands/rooms.ts'
import { RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError, suspendedError } from '../../../shared/matrix/matrix-error.ts'
import { type DelayedEvent, delayedEventById, scheduledEventsOf } from '../../../shared/storage/delayed-events.ts'
import { type ClientDeps, route } from '../deps.ts'

const spec = 'https://github.com/matrix-org/matrix-spec-proposals/pull/4140'
const unstable = '/_matrix/client/unstable/org.matrix.msc4140'

/** The parameter by which earlier drafts of the proposal schedule, on the routes that send. */
export const delayParameter = 'org.matrix.msc4140.delay'
const Milliseconds = v.pipe(v.number(), v.safeInteger(), v.minValue(1))
export const DelayQuery = v.object({
  [delayParameter]: v.optional(v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number), Milliseconds)),
})

type Wanted = Parameters<MainClient['scheduleDelayedEvent']>[0]

export async function schedule(
  { main, config }: ClientDeps,
  user: Requester,
  wanted: Omit<Wanted, 'user_id' | 'device_id'>,
  tooLong: (max: number) => MatrixError,
): Promise<{ delay_id: string }> {
  const { max_delay, max_per_user } = config.delayed_events
  if (user.suspended && (wanted.type !== 'm.room.redaction' || wanted.state_key !== undefined)) throw suspendedError()
  if (max_per_user === 0) throw new MatrixError('M_FORBIDDEN', 'This server has no delayed events')
  if (wanted.delay_ms > max_delay) throw tooLong(max_delay)
  return main.scheduleDelayedEvent({ ...wanted, user_id: user.user_id, device_id: user.device_id })
}

const sentence = (max: number) => `An event is delayed by ${max} ms at most`

/** As clients of the earlier drafts look for it. */
export function tooLongByQuery(max: number): MatrixError {
  const extra = { 'org.matrix.msc4140.errcode': 'M_MAX_DELAY_EXCEEDED', 'org.matrix.msc4140.max_delay': max }
  return new MatrixError('M_UNKNOWN', sentence(max), { status: 400, extra })
}

const scheduleRoute = (path: string) =>
  route({
    method: 'PUT',
    path,
    spec,
    auth: 'guest',
    limit: 'message',
    sticky: 'room',
    params: v.object({ roomId: RoomId, eventType: v.string(), txnId: v.string() }),
    body: v.object({ delay_ms: Milliseconds, state_key: v.optional(v.string()), content: Content }),
    handle: ({ params: { roomId: room_id, eventType: type, txnId: txn_id }, body, user }, deps) =>
      schedule(deps, user, { ...body, room_id, type, txn_id }, (max) => new MatrixError('M_FORBIDDEN', sentence(max))),
  })

/** The event, if it is the user's; who has no token knows its id, which nobody can guess. */
async function found({ sql }: ClientDeps, delay_id: string, user: Requester | undefined): Promise<DelayedEvent> {
  const event = await delayedEventById(sql, delay_id)
  if (!event || (user && user.user_id !== event.user_id)) {
    throw new MatrixError('M_NOT_FOUND', 'There is no such delayed event')
  }
  return event
}

type Action = 'send' | 'cancel' | 'restart'
const params = v.object({ delayId: v.string() })

async function act(deps: ClientDeps, delayId: string, action: Action, user: Requester | undefined) {
  const { delay_id, user_id, room_id } = await found(deps, delayId, user)
  return action === 'send'
    ? deps.main.sendDelayedEvent({ delay_id, room_id })
    : deps.main.updateDelayedEvent({ delay_id, user_id, action })
}

/** By the earlier drafts, whoever knows the id may do this: a focus of calls ends those of clients that went away. */
const actionRoute = (prefix: string, auth: 'guest' | 'optional', action: Action) =>
  route({
    method: 'POST',
    path: `${prefix}/delayed_events/:delayId/${action}`,
    spec,
    auth,
    limit: action === 'send' ? 'message' : 'account',
    params,
    handle: ({ params: { delayId }, user }, deps) => act(deps, delayId, action, user),
  })

const actByBody = route({
  method: 'POST',
  path: `${unstable}/delayed_events/:delayId`,
  spec,
  auth: 'optional',
  limit: 'account',
  params,
  body: v.object({ action: v.picklist(['send', 'cancel', 'restart']) }),
  handle: ({ params: { delayId }, body: { action }, user }, deps) => act(deps, delayId, action, user),
})

const listRoute = (prefix: string) =>
  route({
    method: 'GET',
    path: `${prefix}/delayed_events`,
    spec,
    auth: 'guest',
    limit: 'read',
    handle: async ({ user }, { sql }) => ({
      delayed_events: (await scheduledEventsOf(sql, user.user_id)).map(scheduledJson),
    }),
  })

const oneRoute = (prefix: string) =>
  route({
    method: 'GET',
    path: `${prefix}/delayed_events/:delayId`,
    spec,
    auth: 'guest',
    limit: 'read',
    params,
    async handle({ params: { delayId }, user }, deps) {
      const event = await found(deps, delayId, user)
      return {
        ...scheduledJson(event),
        ...(event.finalised_ts === null ? {} : { finalised_ts: event.finalised_ts }),
        ...(event.event_id === null ? {} : { event_id: event.event_id }),
        ...(event.error === null ? {} : { error: JSON.parse(event.error) }),
      }
    },
  })

function scheduledJson(event: DelayedEvent): object {
  const { delay_id, room_id, type, state_key, delay_ms, scheduled_ts } = event
  return {
    delay_id,
    room_id,
    type,
    ...(state_key === null ? {} : { state_key }),
    delay_ms,
    scheduled_at: scheduled_ts,
    // As the earlier drafts name them.
    delay: delay_ms,
    running_since: scheduled_ts,
    content: JSON.parse(event.content),
  }
}

const v1 = '/_matrix/client/v1'
const actions = ['send', 'cancel', 'restart'] as const

export const delayedEventRoutes = [
  scheduleRoute('/_matrix/client/v3/rooms/:roomId/delayed_event/:eventType/:txnId'),
  scheduleRoute(`${unstable}/rooms/:roomId/delayed_event/:eventType/:txnId`),
  listRoute(v1),
  listRoute(unstable),
  oneRoute(v1),
  oneRoute(unstable),
  ...actions.map((action) => actionRoute(v1, 'guest', action)),
  ...actions.map((action) => actionRoute(unstable, 'optional', action)),
  actByBody,
] as const
