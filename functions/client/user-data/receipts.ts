import * as v from 'valibot'
import { EventId, RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { ReceiptType } from '../../../shared/streams/receipts.ts'
import { route } from '../deps.ts'

export const postReceipt = route({
  method: 'POST',
  path: '/_matrix/client/v3/rooms/:roomId/receipt/:receiptType/:eventId',
  spec: 'client-server-api/#post_matrixclientv3roomsroomidreceiptreceipttypeeventid',
  auth: 'user',
  sticky: 'room',
  params: v.object({
    roomId: RoomId,
    receiptType: v.picklist(['m.read', 'm.read.private', 'm.fully_read']),
    eventId: EventId,
  }),
  body: v.object({ thread_id: v.optional(v.unknown()) }),
  emptyBody: true,
  async handle({ params: { roomId, receiptType, eventId }, body, user: { user_id } }, { main }) {
    const thread_id = threadOf(body.thread_id)
    if (receiptType === 'm.fully_read') {
      if (thread_id !== '') throw new MatrixError('M_INVALID_PARAM', 'm.fully_read takes no thread_id')
      return main.sendReceipts({ user_id, room_id: roomId, receipts: [], fully_read: eventId })
    }
    const receipts = [{ receipt_type: receiptType, event_id: eventId, thread_id }]
    return main.sendReceipts({ user_id, room_id: roomId, receipts })
  },
})

/** Absent: unthreaded. https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts */
function threadOf(thread: unknown): string {
  if (thread === undefined) return ''
  if (typeof thread === 'string' && (thread === 'main' || v.is(EventId, thread))) return thread
  throw new MatrixError('M_INVALID_PARAM', 'thread_id must be "main" or the id of a thread\'s root event')
}

const marker = v.optional(EventId)

export const postReadMarkers = route({
  method: 'POST',
  path: '/_matrix/client/v3/rooms/:roomId/read_markers',
  spec: 'client-server-api/#post_matrixclientv3roomsroomidread_markers',
  auth: 'user',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  body: v.object({ 'm.fully_read': marker, 'm.read': marker, 'm.read.private': marker }),
  async handle({ params: { roomId }, body, user: { user_id } }, { main }) {
    const receipts = ReceiptType.options.flatMap((receipt_type) => {
      const event_id = body[receipt_type]
      return event_id ? [{ receipt_type, event_id, thread_id: '' }] : []
    })
    const fully_read = body['m.fully_read']
    if (receipts.length === 0 && !fully_read) return {}
    return main.sendReceipts({ user_id, room_id: roomId, receipts, ...(fully_read ? { fully_read } : {}) })
  },
})
