/** Receipts and the fully-read marker. https://spec.matrix.org/v1.19/client-server-api/#receipts */
import type { Clock } from '../../../../shared/clock.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { EventId, RoomId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { ReceiptRow } from '../../../../shared/streams/receipts.ts'
import type { KeyedQueue } from '../../keyed-queue.ts'
import type { Committer } from '../../persist/writes.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  readonly queue: KeyedQueue
}

interface PlacedEvent {
  readonly event_id: EventId
  readonly position: number | null
  readonly thread_root: string | null
}

/** https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts */
const relationHopsMax = 3

export function receiptHandlers(deps: Deps): Pick<MainClient, 'sendReceipts'> {
  const { sql, committer, clock, queue } = deps

  const sendReceipts: MainClient['sendReceipts'] = async (request) => {
    const [room] = await sql<{ room_nid: number; membership: string }[]>`
      select r.room_nid, m.membership from rooms r
      join memberships m on m.room_nid = r.room_nid and m.user_id = ${request.user_id}
      where r.room_id = ${request.room_id}`
    if (room?.membership !== 'join') throw new MatrixError('M_FORBIDDEN', 'You are not in this room')

    const wanted = [...request.receipts.map((receipt) => receipt.event_id)]
    if (request.fully_read) wanted.push(request.fully_read)
    const [placed, held, marker] = await Promise.all([
      sql<PlacedEvent[]>`
        select event_id, position, thread_root from events
        where event_id in ${sql(wanted)} and room_nid = ${room.room_nid}`,
      sql<{ receipt_type: string; thread_id: string; event_position: number }[]>`
        select receipt_type, thread_id, event_position from receipts
        where user_id = ${request.user_id} and room_nid = ${room.room_nid}`,
      request.fully_read ? fullyReadPosition(request.user_id, room.room_nid) : undefined,
    ])
    const events = new Map(placed.map((event) => [event.event_id, event]))
    const receipts: Omit<ReceiptRow, 'position'>[] = []
    for (const receipt of request.receipts) {
      const event = events.get(receipt.event_id)
      if (event?.position == null) throw new MatrixError('M_NOT_FOUND', 'There is no such event in this room')
      if (!isInThread(event, receipt.thread_id) && !(await leadsTo(room.room_nid, event.event_id, receipt.thread_id))) {
        throw new MatrixError('M_INVALID_PARAM', 'The event is not in the thread that thread_id names')
      }
      const last = held.find((h) => h.receipt_type === receipt.receipt_type && h.thread_id === receipt.thread_id)
      if (last && last.event_position >= event.position) continue
      receipts.push({
        ...receipt,
        room_nid: room.room_nid,
        room_id: request.room_id,
        user_id: request.user_id,
        event_position: event.position,
        ts: clock.now(),
      })
    }
    const fullyRead = request.fully_read && events.get(request.fully_read)
    if (request.fully_read && fullyRead?.position == null) {
      throw new MatrixError('M_NOT_FOUND', 'There is no such event in this room')
    }
    const forward = fullyRead?.position != null && fullyRead.position > (marker ?? -1)
    if (receipts.length === 0 && !forward) return {}
    await committer.commit({
      receipts,
      account_data: forward ? [fullyReadRow(request, room.room_nid, fullyRead.event_id)] : [],
    })
    return {}
  }

  async function fullyReadPosition(userId: string, roomNid: number): Promise<number | undefined> {
    const [row] = await sql<{ position: number | null }[]>`
      select e.position from account_data a join events e on e.event_id = a.content::json ->> 'event_id'
      where a.user_id = ${userId} and a.room_nid = ${roomNid} and a.type = 'm.fully_read'`
    return row?.position ?? undefined
  }

  /** An event that relates to a thread's root, over others, is in the main timeline; but clients show a reaction to it in
   *  the thread, and mark the thread as read up to there. */
  async function leadsTo(room_nid: number, event_id: EventId, threadId: string): Promise<boolean> {
    if (threadId === 'main') return false
    const rows = await sql`
      with recursive chain (relates_to, hops) as (
        select relates_to, 1 from events where event_id = ${event_id} and room_nid = ${room_nid}
        union all
        select e.relates_to, chain.hops + 1 from chain join events e on e.event_id = chain.relates_to
        where e.room_nid = ${room_nid} and chain.hops < ${relationHopsMax}
      )
      select 1 from chain where relates_to = ${threadId} limit 1`
    return rows.length > 0
  }

  // One at a time a user and room: a receipt is compared with the one before it.
  return { sendReceipts: (request) => queue.run(`${request.user_id} ${request.room_id}`, () => sendReceipts(request)) }
}

function fullyReadRow(
  request: { user_id: ReceiptRow['user_id']; room_id: RoomId },
  room_nid: number,
  event_id: EventId,
) {
  return {
    user_id: request.user_id,
    room_id: request.room_id,
    room_nid,
    type: 'm.fully_read',
    content: JSON.stringify({ event_id }),
  }
}

/** https://spec.matrix.org/v1.19/client-server-api/#threaded-read-receipts: the root itself belongs to the main timeline,
 *  but clients name it in its thread as well. */
function isInThread(event: PlacedEvent, threadId: string): boolean {
  if (threadId === '') return true
  if (threadId === 'main') return event.thread_root === null
  return event.thread_root === threadId || event.event_id === threadId
}
