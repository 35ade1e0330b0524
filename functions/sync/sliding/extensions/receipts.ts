/** MSC3960: receipts. Of a room that is new to the client: those on the events that it is shown, and the user's own.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/3960 */
import type { EventId } from '../../../../shared/matrix/ids.ts'
import { receiptsBetween, type StoredReceipt } from '../../../../shared/storage/receipts.ts'
import { receiptsOnEvents } from '../../../../shared/storage/sync-sliding.ts'
import type { LiveRoom } from '../../live-room.ts'
import type { UserRoom } from '../../live-user.ts'
import { roomReceipts } from '../../room-data.ts'
import { receiptsJson } from '../../room-json.ts'
import { allSoon, type Soon, soon } from '../../soon.ts'
import { hasPrivateReceipt } from '../plan-rooms.ts'
import type { Scope } from '../request.ts'
import { type Extension, type ExtensionContext, inScope } from './extension.ts'

interface Told {
  readonly fresh: UserRoom[]
  /** Rooms that come back into sight, and where they were told last. */
  readonly behind: UserRoom[]
  behindFrom: number
  readonly live: { readonly membership: UserRoom; readonly room: LiveRoom; readonly fresh: false }[]
}

export const receiptsExtension: Extension<Scope> = (context, scope) => {
  const told = sortRooms(context, scope)
  if (told.fresh.length + told.behind.length + told.live.length === 0) return undefined
  return soon(readReceipts(context, told), (found) => {
    const byRoom = new Map<number, StoredReceipt[]>()
    for (const receipt of found) {
      const known = byRoom.get(receipt.room_nid)
      if (known) known.push(receipt)
      else byRoom.set(receipt.room_nid, [receipt])
    }
    const rooms: string[] = []
    for (const { membership } of context.selection.rooms.values()) {
      const receipts = byRoom.get(membership.room_nid)
      if (receipts) rooms.push(`${JSON.stringify(membership.room_id)}:${receiptsJson(receipts)}`)
    }
    return rooms.length === 0 ? undefined : { json: `{"rooms":{${rooms.join(',')}}}`, news: true }
  })
}

function sortRooms({ answer, state, selection, since, shown }: ExtensionContext, scope: Scope): Told {
  const includes = inScope(scope)
  const told: Told = { fresh: [], behind: [], behindFrom: Number.MAX_SAFE_INTEGER, live: [] }
  for (const selected of selection.rooms.values()) {
    const { membership } = selected
    const { room, room_nid } = membership
    if (!room || !includes(selected)) continue
    const sent = state.rooms.get(room_nid)
    if (!sent || !since || sent.receipts === 'never' || shown.get(room_nid)?.initial) told.fresh.push(membership)
    else if (sent.receipts !== 'live') {
      told.behind.push(membership)
      told.behindFrom = Math.min(told.behindFrom, sent.receipts)
    } else if (room.receipts > since.receipts || hasPrivateReceipt(answer.user, room, since.receipts)) {
      told.live.push({ membership, room, fresh: false })
    }
  }
  return told
}

function readReceipts(
  { answer, since, upTo, shown }: ExtensionContext,
  { fresh, behind, behindFrom, live }: Told,
): Soon<StoredReceipt[]> {
  const { sql, user } = answer
  const nids = fresh.map((room) => room.room_nid)
  const events = nids.flatMap((nid) => shown.get(nid)?.event_ids ?? []) as EventId[]
  const range = { after: behindFrom, upTo: upTo.receipts }
  const read = allSoon([
    nids.length > 0 ? receiptsOnEvents(sql, user.user_id, nids, events, upTo.receipts) : [],
    behind.length > 0
      ? receiptsBetween(
          sql,
          user.user_id,
          behind.map((room) => room.room_nid),
          range,
        )
      : [],
    live.length > 0 ? roomReceipts(answer, { since, upTo }, live) : new Map<number, StoredReceipt[]>(),
  ])
  return soon(read, ([first, since, latest]) => [...first, ...since, ...[...latest.values()].flat()])
}
