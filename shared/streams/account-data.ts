import * as v from 'valibot'
import { RoomId, UserId } from '../matrix/ids.ts'
import { missedAccountData } from '../storage/stream-gaps.ts'
import { defineStream, StreamPosition } from './define.ts'

/** Content of an entry that was taken away: who knew the entry has to hear of that.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/3391 */
export const noAccountData = '{}'

/** Global (room_nid 0, no room_id) and room account data; tags are type `m.tag`, push rules `m.push_rules`, the fully
 *  read marker `m.fully_read`. `content` is JSON text; `noAccountData` where the entry was taken away. */
export const AccountDataRow = v.object({
  position: StreamPosition,
  user_id: UserId,
  room_nid: v.number(),
  room_id: v.optional(RoomId),
  type: v.string(),
  content: v.string(),
})
export type AccountDataRow = v.InferOutput<typeof AccountDataRow>

export const accountData = defineStream({
  name: 'account_data',
  row: AccountDataRow,
  kept: 'postgres',
  missed: missedAccountData,
  wakes: (row) => [row.user_id],
  spec: 'client-server-api/#client-config',
})
