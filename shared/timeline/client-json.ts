/** Events as clients get them, put together from ready-made pieces: the content is copied as text, never parsed and
 *  written again. https://spec.matrix.org/v1.19/client-server-api/#room-event-format */
import { isJsonObject } from '../matrix/json-value.ts'
import type { TimelineEvent } from './timeline-event.ts'

/** Who is going to read the event. */
export interface Viewer {
  readonly user_id: string
  readonly device_id?: string | undefined
}

export interface ClientEventOptions {
  /** Milliseconds since the epoch, for `unsigned.age`. */
  readonly now: number
  /** False where the answer names the room elsewhere, as /sync does. */
  readonly roomId: boolean
  /** The viewer's membership at the event, including the event's own effect. */
  readonly membership?: string | undefined
  /** JSON of `unsigned.m.relations`, as `bundledRelations` makes it. */
  readonly relations?: string | undefined
  /** What `eventBody` gave for this event, where the caller keeps it. */
  readonly body?: string | undefined
}

/** JSON of one event for one viewer. */
export function clientEventJson(event: TimelineEvent, viewer: Viewer, options: ClientEventOptions): string {
  let json = `{${options.body ?? eventBody(event)}`
  if (options.roomId) json += `,"room_id":${JSON.stringify(event.room_id)}`
  json += `,"unsigned":{"age":${options.now - event.origin_server_ts}`
  if (options.membership !== undefined) json += `,"membership":${JSON.stringify(options.membership)}`
  if (event.txn_id !== undefined && event.sender === viewer.user_id && event.device_id === viewer.device_id) {
    json += `,"transaction_id":${JSON.stringify(event.txn_id)}`
  }
  if (event.delay_id !== undefined && event.sender === viewer.user_id) {
    const delayId = JSON.stringify(event.delay_id)
    json += `,"delay_id":${delayId},"org.matrix.msc4140.delay_id":${delayId}`
  }
  if (event.replaces !== undefined) {
    const { event_id, sender, content } = event.replaces
    json += `,"prev_content":${content},"prev_sender":${JSON.stringify(sender)},"replaces_state":${JSON.stringify(event_id)}`
  }
  if (event.redacted_because !== undefined) json += `,"redacted_because":${redactionJson(event, options.roomId)}`
  if (options.relations !== undefined) json += `,"m.relations":${options.relations}`
  return `${json}}}`
}

/** The part of an event's client JSON that is the same for every viewer, at any time: without braces, `room_id` and
 *  `unsigned`. */
export function eventBody(event: TimelineEvent): string {
  const { state_key } = event
  const redacts = event.redacts !== undefined && event.type === 'm.room.redaction'
  const content = redacts ? contentOfRedaction(event) : event.content
  return (
    `"content":${content},"event_id":${JSON.stringify(event.event_id)},"origin_server_ts":${event.origin_server_ts}` +
    `${redacts ? `,"redacts":${JSON.stringify(event.redacts)}` : ''},"sender":${JSON.stringify(event.sender)}` +
    `${state_key === undefined ? '' : `,"state_key":${JSON.stringify(state_key)}`},"type":${JSON.stringify(event.type)}`
  )
}

/** https://spec.matrix.org/v1.19/client-server-api/#stripped-state */
export function strippedStateJson(event: {
  readonly content: string
  readonly sender: string
  readonly state_key?: string | undefined
  readonly type: string
  readonly event_id?: string
  readonly origin_server_ts?: number
}): string {
  const stripped = `"content":${event.content},"sender":${JSON.stringify(event.sender)},"state_key":${JSON.stringify(event.state_key ?? '')},"type":${JSON.stringify(event.type)}`
  // Of the create event all that is known of it.
  if (event.type !== 'm.room.create' || !event.origin_server_ts) return `{${stripped}}`
  const id = event.event_id ? `,"event_id":${JSON.stringify(event.event_id)}` : ''
  return `{${stripped},"origin_server_ts":${event.origin_server_ts}${id}}`
}

function redactionJson(event: TimelineEvent, roomId: boolean): string {
  const body = event.redacted_because ?? ''
  return roomId ? `{${body},"room_id":${JSON.stringify(event.room_id)}}` : `{${body}}`
}

/** Clients find `redacts` in the content and at the top level, whatever the room version.
 *  https://spec.matrix.org/v1.19/rooms/v11/#moving-the-redacts-property-of-mroomredaction-events-to-a-content-property */
function contentOfRedaction({ content, redacts }: TimelineEvent): string {
  if (content.includes('"redacts"')) {
    const parsed: unknown = JSON.parse(content)
    if (isJsonObject(parsed) && 'redacts' in parsed) return content
  }
  const rest = content.slice(1).trimStart()
  return `{"redacts":${JSON.stringify(redacts)}${rest.startsWith('}') ? '' : ','}${rest}`
}
