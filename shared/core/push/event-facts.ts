/** What push rules may ask of an event, looked up once an event however many rules ask. */
import type { JsonObject, JsonValue } from '../../matrix/json-value.ts'
import { propertyAt } from '../property-path.ts'

/** A Pdu is one. */
export interface PushEvent {
  readonly event_id: string
  readonly room_id: string
  readonly type: string
  readonly sender: string
  readonly state_key?: string
  readonly redacts?: string
  readonly origin_server_ts: number
  readonly content: JsonObject
}

/** What push rules ask of the room as it was when the event was sent. */
export interface PushContext {
  /** Joined members. */
  readonly member_count: number
  /** True if the sender has the power level that `notifications.<key>` of the power levels asks for (50 if unset). */
  senderMayNotify(key: string): boolean
}

/** The user whose rules are tried. */
export interface PushUser {
  readonly user_id: string
  /** In that room; undefined: none. */
  readonly display_name: string | undefined
}

/** A path, parsed once when a ruleset is compiled. */
export interface Property {
  readonly path: string
  readonly keys: readonly string[]
}

export class EventFacts {
  readonly event: PushEvent
  readonly context: PushContext
  /** The event says whom it mentions. */
  readonly hasMentions: boolean
  /** `content.body` in lower case; undefined if it is no string. */
  readonly body: string | undefined
  #lower: Map<string, string | undefined> | undefined

  constructor(event: PushEvent, context: PushContext) {
    this.event = event
    this.context = context
    this.hasMentions = Object.hasOwn(event.content, 'm.mentions')
    const body = event.content.body
    this.body = typeof body === 'string' ? body.toLowerCase() : undefined
  }

  value(property: Property): JsonValue | undefined {
    const { event } = this
    const [first] = property.keys
    if (first === 'content') return property.keys.length > 1 ? propertyAt(event.content, property.keys, 1) : undefined
    if (property.keys.length !== 1) return undefined
    switch (first) {
      case 'type':
      case 'sender':
      case 'room_id':
      case 'event_id':
      case 'state_key':
      case 'redacts':
      case 'origin_server_ts':
        return event[first]
      default:
        return undefined
    }
  }

  /** The value in lower case; undefined if it is no string. */
  lower(property: Property): string | undefined {
    this.#lower ??= new Map()
    const { path } = property
    const known = this.#lower.get(path)
    if (known !== undefined || this.#lower.has(path)) return known
    const value = this.value(property)
    const lower = typeof value === 'string' ? value.toLowerCase() : undefined
    this.#lower.set(path, lower)
    return lower
  }
}
