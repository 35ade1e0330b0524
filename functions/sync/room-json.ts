/** The JSON of a room in an answer, put together from ready-made pieces. */
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import type { StoredAccountData } from '../../shared/storage/account-data.ts'
import type { StoredReceipt } from '../../shared/storage/receipts.ts'
import type { RoomSummary } from '../../shared/storage/sync-rooms.ts'
import { encodePaginationToken } from '../../shared/streams/token.ts'
import { clientEventJson, strippedStateJson, type Viewer } from '../../shared/timeline/client-json.ts'
import { membershipAt, type RoomSection, type StateEvent } from './timelines.ts'
import type { RoomUnread } from './unread.ts'

export interface EventStyle {
  readonly viewer: Viewer
  /** Milliseconds since the epoch. */
  readonly now: number
  /** From the filter's `event_fields`. */
  readonly fields: ((event: JsonObject) => JsonObject) | null
  /** Bundled aggregations by event id. */
  readonly relations: ReadonlyMap<string, string>
  /** Events as servers exchange them by event id, where the filter asked for that format. */
  readonly federation: ReadonlyMap<number, string> | undefined
}

/** `"timeline":{…}` */
export function timelineJson(section: RoomSection, style: EventStyle): string {
  return `"timeline":{"events":${timelineEventsJson(section, style)},"limited":${section.limited},"prev_batch":"${encodePaginationToken(section.start)}"}`
}

/** `[…]` of the timeline's events. */
export function timelineEventsJson(section: RoomSection, style: EventStyle): string {
  const { viewer, now, relations } = style
  let events = ''
  for (const { event, body } of section.events) {
    const json =
      style.federation?.get(event.event_nid) ??
      clientEventJson(event, viewer, {
        now,
        roomId: false,
        membership: membershipAt(section, event),
        relations: relations.size > 0 ? relations.get(event.event_id) : undefined,
        body,
      })
    events += `${events === '' ? '' : ','}${styled(json, style)}`
  }
  return `[${events}]`
}

/** `[…]` of state events. */
export function stateJson(events: readonly StateEvent[], style: EventStyle): string {
  let json = ''
  for (const event of events) {
    const one = style.federation?.get(event.event_nid) ?? stateEventJson(event, style.now)
    json += `${json === '' ? '' : ','}${styled(one, style)}`
  }
  return `[${json}]`
}

function stateEventJson(event: StateEvent, now: number): string {
  return `{"content":${event.content},"event_id":${JSON.stringify(event.event_id)},"origin_server_ts":${event.origin_server_ts},"sender":${JSON.stringify(event.sender)},"state_key":${JSON.stringify(event.state_key)},"type":${JSON.stringify(event.type)},"unsigned":{"age":${now - event.origin_server_ts}}}`
}

function styled(json: string, { fields }: EventStyle): string {
  return fields ? JSON.stringify(fields(JSON.parse(json) as JsonObject)) : json
}

/** `{"events":[…]}` of stripped state. https://spec.matrix.org/v1.19/client-server-api/#stripped-state */
export function strippedJson(events: readonly StateEvent[]): string {
  return `{"events":[${events.map(strippedStateJson).join(',')}]}`
}

/** The m.receipt event of a room; '' where there are no receipts.
 *  https://spec.matrix.org/v1.19/client-server-api/#mreceipt */
export function receiptsJson(receipts: readonly StoredReceipt[]): string {
  if (receipts.length === 0) return ''
  // event id -> type -> user -> receipt. A user has room for one receipt an event: the unthreaded one says more.
  const byEvent = new Map<string, Map<string, Map<string, StoredReceipt>>>()
  for (const receipt of latest(receipts)) {
    const byType = getOrAdd(byEvent, receipt.event_id)
    const byUser = getOrAdd(byType, receipt.receipt_type)
    if (byUser.get(receipt.user_id)?.thread_id !== '') byUser.set(receipt.user_id, receipt)
  }
  const events = [...byEvent].map(([event_id, byType]) => {
    const types = [...byType].map(([type, byUser]) => {
      const users = [...byUser.values()].map(
        ({ user_id, ts, thread_id }) =>
          `${JSON.stringify(user_id)}:{"ts":${ts}${thread_id === '' ? '' : `,"thread_id":${JSON.stringify(thread_id)}`}}`,
      )
      return `"${type}":{${users.join(',')}}`
    })
    return `${JSON.stringify(event_id)}:{${types.join(',')}}`
  })
  return `{"content":{${events.join(',')}},"type":"m.receipt"}`
}

/** The newest receipt of each user, type and thread; they come oldest first. */
function latest(receipts: readonly StoredReceipt[]): Iterable<StoredReceipt> {
  if (receipts.length === 1) return receipts
  const byKey = new Map<string, StoredReceipt>()
  for (const receipt of receipts) {
    byKey.set(`${receipt.receipt_type}\0${receipt.thread_id}\0${receipt.user_id}`, receipt)
  }
  return byKey.values()
}

function getOrAdd<V>(map: Map<string, Map<string, V>>, key: string): Map<string, V> {
  const known = map.get(key)
  if (known) return known
  const made = new Map<string, V>()
  map.set(key, made)
  return made
}

export function typingJson(users: readonly string[]): string {
  return `{"content":{"user_ids":${JSON.stringify(users)}},"type":"m.typing"}`
}

export function accountDataJson(rows: readonly Pick<StoredAccountData, 'type' | 'content'>[]): string {
  return rows.map(({ type, content }) => `{"content":${content},"type":${JSON.stringify(type)}}`).join(',')
}

/** `"summary":{…}` */
export function summaryJson(summary: RoomSummary): string {
  const heroes = summary.heroes === null ? '' : `"m.heroes":${JSON.stringify(summary.heroes)},`
  return `"summary":{${heroes}"m.joined_member_count":${summary.joined_members},"m.invited_member_count":${summary.invited_members}}`
}

/** `"unread_notifications":{…}`, with those of threads beside it where the filter asked for them. */
export function unreadJson({ main, threads }: Pick<RoomUnread, 'main' | 'threads'>, byThread: boolean): string {
  let { notifications, highlights } = main
  const list: string[] = []
  for (const [root, counts] of threads) {
    if (byThread) {
      if (counts.notifications > 0 || counts.highlights > 0) {
        list.push(`${JSON.stringify(root)}:${countsJson(counts.notifications, counts.highlights)}`)
      }
    } else {
      notifications += counts.notifications
      highlights += counts.highlights
    }
  }
  const json = `"unread_notifications":${countsJson(notifications, highlights)}`
  return list.length > 0 ? `${json},"unread_thread_notifications":{${list.join(',')}}` : json
}

function countsJson(notifications: number, highlights: number): string {
  return `{"highlight_count":${highlights},"notification_count":${notifications}}`
}
