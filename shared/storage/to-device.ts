/** Reads of devices' inboxes. A message of a device that was taken away, or of a former one of the same name, is none. */
import type { DeviceId, UserId } from '../matrix/ids.ts'
import type { StreamPosition } from '../streams/define.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export interface ToDeviceMessage {
  readonly position: StreamPosition
  readonly sender: UserId
  readonly type: string
  /** JSON text. */
  readonly content: string
}

/** https://spec.matrix.org/v1.19/client-server-api/#server-behaviour-16: at most 100 messages in one answer. */
export const messagesPerAnswer = 100
/** Messages are up to 64 KiB; an answer holds fewer large ones. */
const charactersPerAnswer = 2 * 1024 * 1024

export interface Inbox {
  /** In the order in which they were sent. */
  readonly messages: readonly ToDeviceMessage[]
  /** The client has everything up to here with them. */
  readonly upTo: StreamPosition
}

/** The first messages at positions in (after, upTo], as many as one answer holds. */
export async function readInbox(
  sql: ReadSql,
  of: { readonly user_id: UserId; readonly device_id: DeviceId },
  range: { readonly after: number; readonly upTo: StreamPosition; readonly limit: number },
): Promise<Inbox> {
  const { limit } = range
  const device_id = pgText(of.device_id)
  const rows = await sql<ToDeviceMessage[]>`
    select position, sender, type, content from to_device
    where user_id = ${of.user_id} and device_id = ${device_id} and position <= ${range.upTo}
      and position > greatest(${range.after}, (
        select up_to from ended_inboxes where user_id = ${of.user_id} and device_id = ${device_id}))
    order by position limit ${limit}`
  const messages: ToDeviceMessage[] = []
  let characters = 0
  for (const row of rows) {
    characters += row.content.length
    if (messages.length > 0 && characters > charactersPerAnswer) break
    messages.push({ ...row, type: fromPgText(row.type) })
  }
  const last = messages.at(-1)
  const all = rows.length < limit && messages.length === rows.length
  return { messages, upTo: all || !last ? range.upTo : last.position }
}

/** Where a device's inbox begins and ends. */
export interface InboxEnds {
  readonly device_id: DeviceId
  readonly first: number
  readonly last: number
}

/** Of those devices of the user that have messages. */
export async function inboxEnds(sql: ReadSql, user_id: UserId): Promise<InboxEnds[]> {
  const rows = await sql<InboxEnds[]>`
    select d.device_id, f.position as first, l.position as last
    from devices d
    left join ended_inboxes e using (user_id, device_id)
    cross join lateral (
      select position from to_device t
      where t.user_id = d.user_id and t.device_id = d.device_id and t.position > coalesce(e.up_to, 0)
      order by position limit 1) f
    cross join lateral (
      select position from to_device t
      where t.user_id = d.user_id and t.device_id = d.device_id
      order by position desc limit 1) l
    where d.user_id = ${user_id}`
  return rows.map((row) => ({ ...row, device_id: fromPgText(row.device_id) as DeviceId }))
}

/** The message as clients see it. https://spec.matrix.org/v1.19/client-server-api/#extensions-to-sync */
export function toDeviceJson({ sender, type, content }: ToDeviceMessage): string {
  return `{"sender":${JSON.stringify(sender)},"type":${JSON.stringify(type)},"content":${content}}`
}
