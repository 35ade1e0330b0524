/** Receipts and account data of an answer's rooms: from memory where it reaches far enough. */
import {
  accountDataBetween,
  accountDataOfRooms,
  isThere,
  type StoredAccountData,
} from '../../shared/storage/account-data.ts'
import { receiptsBetween, type StoredReceipt } from '../../shared/storage/receipts.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import type { AnswerContext } from './answer.ts'
import type { LiveUser } from './live-user.ts'
import type { JoinPart, Plan } from './plan.ts'
import type { Soon } from './soon.ts'

type DataPart = Pick<JoinPart, 'membership' | 'fresh'>
type ReceiptPart = Pick<JoinPart, 'membership' | 'fresh' | 'room'>

/** Receipts that the client was not sent, by room. */
export function roomReceipts(
  { sql, user, filter }: AnswerContext,
  { since, upTo }: Pick<Plan, 'since' | 'upTo'>,
  parts: readonly ReceiptPart[],
): Soon<Map<number, StoredReceipt[]>> {
  const byRoom = new Map<number, StoredReceipt[]>()
  if (filter.ephemeral.passesNone || !filter.ephemeral.matches({ type: 'm.receipt' })) return byRoom
  const after = since?.receipts ?? 0
  const fresh: number[] = []
  const older: number[] = []
  const add = (receipt: StoredReceipt) => {
    const list = byRoom.get(receipt.room_nid)
    if (list) list.push(receipt)
    else byRoom.set(receipt.room_nid, [receipt])
  }
  const privately = user.privateReceipts > after
  for (const part of parts) {
    const { room, membership } = part
    if (part.fresh) fresh.push(membership.room_nid)
    else if ((room.receipts > after && room.receiptsFrom > after) || (privately && user.privateReceiptsFrom > after)) {
      older.push(membership.room_nid)
    } else {
      if (room.receipts > after) {
        for (const row of room.recentReceipts) if (row.position > after && row.position <= upTo.receipts) add(row)
      }
      if (!privately) continue
      for (const row of user.recentPrivateReceipts) {
        if (row.room_nid === room.room_nid && row.position > after && row.position <= upTo.receipts) add(row)
      }
    }
  }
  if (fresh.length + older.length === 0) return byRoom
  const reading = Promise.all([
    receiptsBetween(sql, user.user_id, fresh, { after: 0, upTo: upTo.receipts }),
    receiptsBetween(sql, user.user_id, older, { after, upTo: upTo.receipts }),
  ])
  return reading.then(([all, some]) => {
    for (const receipt of all) add(receipt)
    for (const receipt of some) add(receipt)
    return byRoom
  })
}

const noAccountData: ReadonlyMap<number, StoredAccountData[]> = new Map()

/** The user's data about rooms that changed, or that the client has nothing of yet, by room. */
export function roomAccountData(
  context: AnswerContext,
  plan: Pick<Plan, 'since' | 'upTo'>,
  parts: readonly DataPart[],
): Soon<ReadonlyMap<number, StoredAccountData[]>> {
  const { user, filter } = context
  const { since } = plan
  if (filter.roomAccountData.passesNone) return noAccountData
  const changed = since !== undefined && user.accountData > since.account_data
  if (!changed && !parts.some((part) => part.fresh)) return noAccountData
  return readRoomAccountData(context, plan, parts)
}

async function readRoomAccountData(
  { sql, user, filter }: AnswerContext,
  { since, upTo }: Pick<Plan, 'since' | 'upTo'>,
  parts: readonly DataPart[],
): Promise<Map<number, StoredAccountData[]>> {
  const byRoom = new Map<number, StoredAccountData[]>()
  const fresh = parts.filter((part) => part.fresh).map((part) => part.membership.room_nid)
  const [all, changed] = await Promise.all([
    accountDataOfRooms(sql, user.user_id, fresh, upTo.account_data),
    since && user.accountData > since.account_data ? changedAccountData(sql, user, since, upTo) : [],
  ])
  const wanted = new Map(parts.map((part) => [part.membership.room_nid, part]))
  const add = (row: StoredAccountData) => {
    const part = wanted.get(row.room_nid)
    if (!part || !filter.roomAccountData.matches({ type: row.type, room_id: part.membership.room_id })) return
    const list = byRoom.get(row.room_nid) ?? []
    byRoom.set(row.room_nid, [...list.filter(({ type }) => type !== row.type), row])
  }
  // Of a room that is new to it, a client that has a token may know what was there at an earlier stay.
  for (const row of all) if (since || isThere(row)) add(row)
  for (const row of changed) if (!wanted.get(row.room_nid)?.fresh) add(row)
  return byRoom
}

/** Account data that the user changed in (since, upTo], of rooms and global. */
export function changedAccountData(sql: ReadSql, user: LiveUser, since: StreamPositions, upTo: StreamPositions) {
  const range = { after: since.account_data, upTo: upTo.account_data }
  if (user.accountDataFrom > since.account_data) return accountDataBetween(sql, user.user_id, range)
  return user.recentAccountData.filter((row) => row.position > range.after && row.position <= range.upTo)
}
