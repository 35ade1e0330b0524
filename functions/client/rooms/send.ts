/** Sending events, setting state, redacting. https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room */
import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { EventId, RoomId } from '../../../shared/matrix/ids.ts'
import { route } from '../deps.ts'

export const sendMessage = route({
  method: 'PUT',
  path: '/_matrix/client/v3/rooms/:roomId/send/:eventType/:txnId',
  spec: 'client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid',
  auth: 'guest',
  limit: 'message',
  sticky: 'room',
  params: v.object({ roomId: RoomId, eventType: v.string(), txnId: v.string() }),
  body: Content,
  handle: ({ params, body, user: { user_id, device_id } }, { main }) =>
    main.sendEvent({
      room_id: params.roomId,
      user_id,
      device_id,
      txn_id: params.txnId,
      type: params.eventType,
      content: body,
    }),
})

const stateRoute = (path: string, params: v.GenericSchema<unknown, { roomId: RoomId; type: string; key: string }>) =>
  route({
    method: 'PUT',
    path,
    spec: 'client-server-api/#put_matrixclientv3roomsroomidstateeventtypestatekey',
    auth: 'guest',
    limit: 'message',
    sticky: 'room',
    params,
    body: Content,
    handle: ({ params: { roomId, type, key }, body, user: { user_id, device_id, guest } }, { main }) =>
      main.sendEvent({ room_id: roomId, user_id, device_id, guest, type, state_key: key, content: body }),
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
  handle: ({ params, body, user: { user_id, device_id } }, { main }) =>
    main.sendEvent({
      room_id: params.roomId,
      user_id,
      device_id,
      txn_id: params.txnId,
      type: 'm.room.redaction',
      redacts: params.eventId,
      content: body,
    }),
})
