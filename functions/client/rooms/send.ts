/** Sending events, setting state, redacting. https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room */
import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { EventId, RoomId } from '../../../shared/matrix/ids.ts'
import { suspendedError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'
import { DelayQuery, delayParameter, schedule, tooLongByQuery } from './delayed-events.ts'

export const sendMessage = route({
  method: 'PUT',
  path: '/_matrix/client/v3/rooms/:roomId/send/:eventType/:txnId',
  spec: 'client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid',
  auth: 'guest',
  limit: 'message',
  sticky: 'room',
  params: v.object({ roomId: RoomId, eventType: v.string(), txnId: v.string() }),
  query: DelayQuery,
  body: Content,
  // Who schedules again is told what was scheduled, by the transaction id alone.
  emptyBody: (query) => query.has(delayParameter),
  handle({ params: { roomId: room_id, eventType: type, txnId: txn_id }, query, body: content, user }, deps) {
    const delay_ms = query[delayParameter]
    if (delay_ms !== undefined) {
      return schedule(deps, user, { room_id, txn_id, type, content, delay_ms }, tooLongByQuery)
    }
    const { user_id, device_id, suspended } = user
    if (suspended && type !== 'm.room.redaction') throw suspendedError()
    return deps.main.sendEvent({ room_id, user_id, device_id, txn_id, type, content, suspended })
  },
})

const stateRoute = (path: string, params: v.GenericSchema<unknown, { roomId: RoomId; type: string; key: string }>) =>
  route({
    method: 'PUT',
    path,
    spec: 'client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey',
    auth: 'guest',
    suspended: 'refused',
    limit: 'message',
    sticky: 'room',
    params,
    query: DelayQuery,
    body: Content,
    handle({ params: { roomId: room_id, type, key: state_key }, query, body: content, user }, deps) {
      const delay_ms = query[delayParameter]
      if (delay_ms !== undefined) {
        return schedule(deps, user, { room_id, type, state_key, content, delay_ms }, tooLongByQuery)
      }
      const { user_id, device_id, guest } = user
      return deps.main.sendEvent({ room_id, user_id, device_id, guest, type, state_key, content })
    },
  })

/** The key may be empty, and may hold slashes that came unencoded. */
export const putStateWithKey = stateRoute(
  '/_matrix/client/v3/rooms/:roomId/state/:eventType/*',
  v.pipe(
    v.object({ roomId: RoomId, eventType: v.string(), '*': v.string() }),
    v.transform(({ roomId, eventType, '*': key }) => ({ roomId, type: eventType, key })),
  ),
)
export const putState = stateRoute(
  '/_matrix/client/v3/rooms/:roomId/state/:eventType',
  v.pipe(
    v.object({ roomId: RoomId, eventType: v.string() }),
    v.transform(({ roomId, eventType }) => ({ roomId, type: eventType, key: '' })),
  ),
)

export const redactEvent = route({
  method: 'PUT',
  path: '/_matrix/client/v3/rooms/:roomId/redact/:eventId/:txnId',
  spec: 'client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid',
  auth: 'user',
  limit: 'message',
  sticky: 'room',
  params: v.object({ roomId: RoomId, eventId: EventId, txnId: v.string() }),
  body: Content,
  emptyBody: true,
  handle: ({ params, body, user: { user_id, device_id, suspended } }, { main }) =>
    main.sendEvent({
      room_id: params.roomId,
      user_id,
      device_id,
      suspended,
      txn_id: params.txnId,
      type: 'm.room.redaction',
      redacts: params.eventId,
      content: body,
    }),
})
