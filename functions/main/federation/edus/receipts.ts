/** https://spec.matrix.org/v1.19/server-server-api/#receipts */
import * as v from 'valibot'
import { EventId, RoomId, type ServerName, serverNameOf, UserId } from '../../../../shared/matrix/ids.ts'
import { isJsonObject } from '../../../../shared/matrix/json-value.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { ReceiptRow } from '../../../../shared/streams/receipts.ts'
import type { Committer, Unplaced } from '../../persist/writes.ts'
import { eduHandler } from './index.ts'
import { roomsOpenTo } from './rooms-open-to.ts'

const Receipt = v.object({
  event_ids: v.pipe(v.array(EventId), v.minLength(1), v.maxLength(100)),
  data: v.optional(
    v.object({
      ts: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
      thread_id: v.optional(v.pipe(v.string(), v.minLength(1), v.maxBytes(255))),
    }),
    {},
  ),
})
/** In one EDU. */
const receiptsMax = 2_000

interface Wanted {
  readonly room_id: RoomId
  readonly user_id: UserId
  readonly event_id: EventId
  readonly thread_id: string
  readonly ts: number
}

export function receiptEdu({ sql, committer }: { readonly sql: MainSql; readonly committer: Committer }) {
  return eduHandler({
    edu_type: 'm.receipt',
    content: v.pipe(v.custom<Record<string, unknown>>(isJsonObject), v.record(v.string(), v.unknown())),
    async handle(origin, content) {
      const named = wantedIn(content, origin)
      if (named.length === 0) return
      const open = await roomsOpenTo(
        sql,
        named.map((one) => one.room_id),
        origin,
      )
      const receipts = await placed(
        sql,
        named.filter((one) => open.has(one.room_id)),
      )
      if (receipts.length > 0) await committer.commit({ receipts })
    },
  })
}

/** Those of the server's own users; what has no form of a receipt is left out. */
function wantedIn(content: Readonly<Record<string, unknown>>, origin: ServerName): Wanted[] {
  const wanted: Wanted[] = []
  for (const [room_id, types] of Object.entries(content)) {
    const read = v.safeParse(v.object({ 'm.read': v.record(v.string(), v.unknown()) }), types)
    const room = v.safeParse(RoomId, room_id)
    if (!room.success || !read.success) continue
    for (const [user_id, value] of Object.entries(read.output['m.read'])) {
      const receipt = v.safeParse(Receipt, value)
      const user = v.safeParse(UserId, user_id)
      if (!receipt.success || !user.success || serverNameOf(user.output) !== origin) continue
      const { event_ids, data } = receipt.output
      const { ts = 0, thread_id = '' } = data
      for (const event_id of event_ids) {
        wanted.push({ room_id: room.output, user_id: user.output, event_id, thread_id, ts })
      }
      if (wanted.length > receiptsMax) return wanted.slice(0, receiptsMax)
    }
  }
  return wanted
}

/** Those on events that are here, of joined members, and further than what the member has read before. */
async function placed(sql: MainSql, wanted: readonly Wanted[]): Promise<Unplaced<ReceiptRow>[]> {
  if (wanted.length === 0) return []
  const texts = (key: 'room_id' | 'user_id' | 'event_id' | 'thread_id') =>
    sql.array(
      wanted.map((one) => one[key]),
      25,
    )
  const rows = await sql<{ place: number; room_nid: number; position: number }[]>`
    select x.place, r.room_nid, e.position
    from (select generate_subscripts(${texts('room_id')}::text[], 1) as place, unnest(${texts('room_id')}::text[]) as room_id,
      unnest(${texts('user_id')}::text[]) as user_id, unnest(${texts('event_id')}::text[]) as event_id,
      unnest(${texts('thread_id')}::text[]) as thread_id) x
    join rooms r on r.room_id = x.room_id
    join memberships m on m.user_id = x.user_id and m.room_nid = r.room_nid and m.membership = 'join'
    join events e on e.event_id = x.event_id and e.room_nid = r.room_nid and e.position is not null
    left join receipts h on h.user_id = x.user_id and h.room_nid = r.room_nid and h.receipt_type = 'm.read'
      and h.thread_id = x.thread_id
    where h.event_position is null or h.event_position < e.position
    order by e.position`
  return rows.flatMap(({ place, room_nid, position }) => {
    const one = wanted[place - 1]
    return one ? [{ ...one, room_nid, receipt_type: 'm.read' as const, event_position: position }] : []
  })
}
