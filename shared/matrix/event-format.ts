/** Events between their three forms: the PDU on the wire, the two texts that are stored (content and envelope), and the
 *  `Pdu` that the core works on. https://spec.matrix.org/v1.19/rooms/v12/#event-format */
import { hash } from 'node:crypto'
import { CanonicalJsonError, canonicalJson, canonicalJsonFor, canonicalString } from './canonical-json.ts'
import { parseText } from './engine-json.ts'
import type { EventRules } from './event-rules.ts'
import { referenceHashOf, sha256Base64 } from './hashes.ts'
import type { EventId, RoomId, ServerName, UserId } from './ids.ts'
import { isJsonObject, type JsonObject, type JsonValue } from './json-value.ts'
import { fitsBytes, limits } from './limits.ts'
import { isRawJson, withPlainNumbers } from './lossless-json.ts'
import { MatrixError } from './matrix-error.ts'
import type { Pdu } from './pdu.ts'
import { losesAllContent, redactContent } from './redaction.ts'
import { type SigningKey, signText } from './signatures.ts'

/** An event before it is hashed and signed. */
export interface EventDraft {
  /** Ignored for the create event of a version whose room id is that event's hash. */
  readonly room_id: RoomId
  readonly type: string
  readonly state_key?: string | undefined
  readonly sender: UserId
  readonly content: JsonObject
  readonly prev_events: readonly EventId[]
  readonly auth_events: readonly EventId[]
  readonly depth: number
  readonly origin_server_ts: number
  /** The version decides where it goes on the wire; a `redacts` in `content` need not be there as well. */
  readonly redacts?: EventId | undefined
  /** Reference hashes of `prev_events` and `auth_events`, which go on the wire in room versions 1 and 2. */
  readonly reference_hashes?: ReadonlyMap<EventId, string>
}

/** An event as it is stored. */
export interface StoredEvent {
  readonly pdu: Pdu
  /** Canonical JSON of `content`, ready for clients. */
  readonly content: string
  /** JSON of the PDU on the wire without `content`. */
  readonly envelope: string
}

/** Hashes and signs an event of our own. Throws M_BAD_JSON on content that is no canonical JSON and M_TOO_LARGE beyond
 *  the size limits; whether the event is allowed is not asked here.
 *  https://spec.matrix.org/v1.19/server-server-api/#adding-hashes-and-signatures-to-outgoing-events */
export function buildEvent(rules: EventRules, draft: EventDraft, serverName: ServerName, key: SigningKey): StoredEvent {
  const { type, state_key, sender, redacts } = draft
  const contentValue = contentWithRedacts(rules, draft)
  const content = forClient(() => canonicalJsonFor(rules, contentValue))
  const isHashCreate = rules.roomIdIsCreateHash && isCreate(draft)

  // The wire format's keys in canonical order, in the pieces that the three encodings of the event share. Hash, signature
  // and storage each join them with their own `content`, `hashes`, `redacts` and `signatures` in between.
  const authEvents = `{"auth_events":${references(rules, draft, draft.auth_events)}`
  const depth = `,"depth":${Math.min(draft.depth, limits.eventDepth)}`
  const rest = `,"origin_server_ts":${draft.origin_server_ts},"prev_events":${references(rules, draft, draft.prev_events)}`
  const topRedacts = redacts !== undefined && !rules.redactsInContent ? `,"redacts":${field('redacts', redacts)}` : ''
  const room = `${isHashCreate ? '' : `,"room_id":${field('room_id', draft.room_id)}`},"sender":${field('sender', sender)}`
  const end = `${state_key === undefined ? '' : `,"state_key":${field('state_key', state_key)}`},"type":${field('type', type)}}`

  const opaque =
    rules.eventIdFormat === 'given'
      ? opaqueEventId(authEvents + content + depth + rest + topRedacts + room + end, serverName)
      : ''
  const givenId = opaque === '' ? '' : `,"event_id":${field('event_id', opaque)}`

  const contentHash = sha256Base64(
    `${authEvents},"content":${content}${depth}${givenId}${rest}${topRedacts}${room}${end}`,
  )
  const hashes = `${givenId},"hashes":{"sha256":"${contentHash}"}`
  const redacted = losesAllContent(rules, type) ? '{}' : redactedContent(rules, type, contentValue, content)
  const signed = Buffer.from(`${authEvents},"content":${redacted}${depth}${hashes}${rest}${room}${end}`)
  const signature = signText(signed, key)
  const signatures = `,"signatures":{${JSON.stringify(serverName)}:{"${key.keyId}":"${signature}"}}`
  const envelope = `${authEvents}${depth}${hashes}${rest}${topRedacts}${room}${signatures}${end}`
  if (!fitsEvent(envelope, content)) throw new MatrixError('M_TOO_LARGE', 'Event is larger than 65536 bytes')

  const event_id = (opaque === '' ? `$${referenceHashOf(rules, signed)}` : opaque) as EventId
  // No spreads of what is mostly absent: in here and in `appendEvent` they took 1 % of a send.
  const pdu: { -readonly [K in keyof Pdu]: Pdu[K] } = {
    event_id,
    room_id: isHashCreate ? roomIdOfCreate(event_id) : draft.room_id,
    type,
    sender,
    content: contentValue,
    prev_events: draft.prev_events,
    auth_events: draft.auth_events,
    depth: Math.min(draft.depth, limits.eventDepth),
    origin_server_ts: draft.origin_server_ts,
  }
  if (state_key !== undefined) pdu.state_key = state_key
  if (type === 'm.room.redaction') Object.assign(pdu, redactsOf(rules, type, contentValue, redacts))
  return { pdu, content, envelope }
}

/** What `parsePdu` says of an event that does not have its room version's format; such an event is dropped. */
export interface InvalidPdu {
  readonly error: string
}

/** Check 1 on receipt of a PDU: the event's format, and its id. Signatures, hashes and authorisation are not looked at.
 *  `unsigned` is not kept: no signature covers it. Never throws.
 *  https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu */
export function parsePdu(rules: EventRules, wire: unknown): StoredEvent | InvalidPdu {
  if (!isJsonObject(wire)) return { error: 'the event is not an object' }
  const { content: contentValue, unsigned: _unsigned, ...rest } = wire
  const error = formatError(rules, wire)
  if (error !== undefined) return { error }
  let content: string
  let envelope: string
  let eventId: EventId
  try {
    content = canonicalJsonFor(rules, contentValue!)
    envelope = canonicalJsonFor(rules, rest)
    eventId = idOf(rules, rest, contentValue as JsonObject)
  } catch (failure) {
    if (failure instanceof CanonicalJsonError) return { error: failure.message }
    throw failure
  }
  if (!fitsEvent(envelope, content)) return { error: `the event is larger than ${limits.eventBytes} bytes` }
  if (!fitsBytes(eventId, limits.fieldBytes)) return { error: 'event_id is too long' }
  const isHashCreate = rules.roomIdIsCreateHash && isCreate(rest)
  const roomId = isHashCreate ? roomIdOfCreate(eventId) : (wire.room_id as RoomId)
  const plainContent = (rules.strictCanonicalJson ? contentValue! : withPlainNumbers(contentValue!)) as JsonObject
  return { pdu: pduOf(rules, eventId, roomId, rest, plainContent), content, envelope }
}

/** The core's form of an event that is stored. */
export function pduFromStored(
  rules: EventRules,
  event_id: EventId,
  room_id: RoomId,
  envelope: string,
  content: string,
): Pdu {
  return pduOf(rules, event_id, room_id, parseText(envelope) as JsonObject, parseText(content) as JsonObject)
}

/** JSON of the PDU as it goes to other servers. */
export function wireFromParts(envelope: string, content: string): string {
  return envelope === '{}' ? `{"content":${content}}` : `{"content":${content},${envelope.slice(1)}`
}

/** The room that a create event makes, where the room id is that event's hash. */
export function roomIdOfCreate(createEventId: EventId): RoomId {
  return `!${createEventId.slice(1)}` as RoomId
}

/** The inverse of `roomIdOfCreate`. */
export function createEventIdOf(roomId: RoomId): EventId {
  return `$${roomId.slice(1)}` as EventId
}

/** Whether an event of these two texts is within the size limit on the wire. */
export function fitsEvent(envelope: string, content: string): boolean {
  const joints = '"content":,'.length
  if ((envelope.length + content.length) * 3 + joints <= limits.eventBytes) return true
  return Buffer.byteLength(envelope) + Buffer.byteLength(content) + joints <= limits.eventBytes
}

function isCreate(event: { readonly type?: unknown; readonly state_key?: unknown }): boolean {
  return event.type === 'm.room.create' && event.state_key === ''
}

/** Turns the encoder's refusal into the caller's error: the JSON came from the client whose event this is. */
function forClient(encode: () => string): string {
  try {
    return encode()
  } catch (error) {
    if (error instanceof CanonicalJsonError) throw new MatrixError('M_BAD_JSON', `Not canonical JSON: ${error.message}`)
    throw error
  }
}

/** A top-level string, encoded; all of them share one limit. */
function field(name: string, value: string): string {
  if (!fitsBytes(value, limits.fieldBytes)) {
    throw new MatrixError('M_TOO_LARGE', `${name} is longer than ${limits.fieldBytes} bytes`)
  }
  return forClient(() => canonicalString(value))
}

function contentWithRedacts(rules: EventRules, { content, redacts }: EventDraft): JsonObject {
  if (redacts === undefined || !rules.redactsInContent || content.redacts === redacts) return content
  return { ...content, redacts }
}

function redactedContent(rules: EventRules, type: string, value: JsonObject, text: string): string {
  const kept = redactContent(rules, type, value)
  return kept === value ? text : canonicalJsonFor(rules, kept)
}

function references(rules: EventRules, draft: EventDraft, ids: readonly EventId[]): string {
  if (!rules.eventReferencesHaveHashes) return JSON.stringify(ids)
  return canonicalJson(wireReferences(rules, ids, draft.reference_hashes))
}

/** As they are on the wire: with their hashes in the versions that have those. */
export function wireReferences(
  rules: EventRules,
  ids: readonly EventId[],
  hashes: ReadonlyMap<EventId, string> | undefined,
): JsonValue[] {
  if (!rules.eventReferencesHaveHashes) return [...ids]
  return ids.map((id) => {
    const sha256 = hashes?.get(id)
    return [id, sha256 === undefined ? {} : { sha256 }]
  })
}

/** Where the server chooses event ids, ours are a hash of the event: unique without randomness or a counter. */
function opaqueEventId(text: string, serverName: ServerName): string {
  return `$${hash('sha256', text, 'base64url').slice(0, 24)}:${serverName}`
}

function idOf(rules: EventRules, envelope: JsonObject, content: JsonObject): EventId {
  if (rules.eventIdFormat === 'given') return envelope.event_id as EventId
  const { signatures: _signatures, ...signed } = envelope
  const kept: JsonObject = { content: redactContent(rules, envelope.type as string, content) }
  for (const key of Object.keys(signed)) if (rules.redaction.keys.has(key)) kept[key] = signed[key]!
  return `$${referenceHashOf(rules, canonicalJsonFor(rules, kept))}` as EventId
}

/** Why a PDU does not have its version's format; undefined when it does. */
function formatError(rules: EventRules, wire: JsonObject): string | undefined {
  const { type, state_key, sender, room_id, content, depth, origin_server_ts, hashes, signatures } = wire
  if (typeof type !== 'string') return 'type is not a string'
  if (!fitsField(rules, type)) return 'type is too long'
  if (state_key !== undefined) {
    if (typeof state_key !== 'string') return 'state_key is not a string'
    if (!fitsField(rules, state_key)) return 'state_key is too long'
  }
  if (typeof sender !== 'string' || !/^@[^:]*:.+$/s.test(sender)) return 'sender is not a user id'
  if (!fitsBytes(sender, limits.fieldBytes)) return 'sender is too long'
  if (rules.roomIdIsCreateHash && isCreate(wire)) {
    if (room_id !== undefined) return 'a create event has no room_id'
  } else {
    if (typeof room_id !== 'string' || !/^!./s.test(room_id)) return 'room_id is not a room id'
    if (!fitsBytes(room_id, limits.fieldBytes)) return 'room_id is too long'
  }
  if (!isJsonObject(content)) return 'content is not an object'
  if (!isInteger(depth) || safeInteger(depth) < 0) return 'depth is not a non-negative integer'
  if (!isInteger(origin_server_ts)) return 'origin_server_ts is not an integer'
  if (!isJsonObject(hashes)) return 'hashes is not an object'
  if (!isJsonObject(signatures)) return 'signatures is not an object'
  if (wire.unsigned !== undefined && !isJsonObject(wire.unsigned)) return 'unsigned is not an object'
  if (rules.eventIdFormat === 'given' && !(typeof wire.event_id === 'string' && /^\$.+$/s.test(wire.event_id))) {
    return 'event_id is not an event id'
  }
  if (!rules.redactsInContent && wire.redacts !== undefined && typeof wire.redacts !== 'string') {
    return 'redacts is not a string'
  }
  return (
    referencesError(rules, 'prev_events', wire.prev_events, limits.prevEvents) ??
    referencesError(rules, 'auth_events', wire.auth_events, limits.authEvents)
  )
}

function fitsField(rules: EventRules, value: string): boolean {
  if (fitsBytes(value, limits.fieldBytes)) return true
  return !rules.fieldLimitInBytes && value.length <= 2 * limits.fieldBytes && [...value].length <= limits.fieldBytes
}

function referencesError(rules: EventRules, name: string, value: unknown, most: number): string | undefined {
  if (!Array.isArray(value)) return `${name} is not an array`
  if (value.length > most) return `${name} has more than ${most} entries`
  const valid = rules.eventReferencesHaveHashes
    ? value.every((pair) => Array.isArray(pair) && pair.length === 2 && isEventId(pair[0]) && isJsonObject(pair[1]))
    : value.every(isEventId)
  return valid ? undefined : `${name} has an entry that is no reference to an event`
}

function isEventId(value: unknown): value is EventId {
  return typeof value === 'string' && value.startsWith('$') && fitsBytes(value, limits.fieldBytes)
}

/** Safe or not: beyond ±(2^53-1) it is canonical JSON, in the versions that ask for it, that refuses. */
function isInteger(value: JsonValue | undefined): value is JsonValue {
  return Number.isInteger(value) || (isRawJson(value) && /^-?[0-9]+$/.test(value.rawJSON))
}

/** The nearest integer that a number holds exactly. */
function safeInteger(value: JsonValue): number {
  const most = Number.MAX_SAFE_INTEGER
  return Math.min(most, Math.max(-most, withPlainNumbers(value) as number))
}

/** `envelope` and `content` have been checked. */
function pduOf(rules: EventRules, event_id: EventId, room_id: RoomId, envelope: JsonObject, content: JsonObject): Pdu {
  const { type, state_key } = envelope
  return {
    event_id,
    room_id,
    type: type as string,
    ...(state_key === undefined ? undefined : { state_key: state_key as string }),
    sender: envelope.sender as UserId,
    content,
    prev_events: idsOf(rules, envelope.prev_events!),
    auth_events: idsOf(rules, envelope.auth_events!),
    depth: safeInteger(envelope.depth!),
    origin_server_ts: safeInteger(envelope.origin_server_ts!),
    ...redactsOf(rules, type as string, content, envelope.redacts),
  }
}

/** The target of a redaction, from where the version keeps it. */
function redactsOf(
  rules: EventRules,
  type: string,
  content: JsonObject,
  top: JsonValue | undefined,
): { redacts?: EventId } {
  if (type !== 'm.room.redaction') return {}
  const redacts = rules.redactsInContent ? content.redacts : top
  return typeof redacts === 'string' ? { redacts: redacts as EventId } : {}
}

function idsOf(rules: EventRules, references: JsonValue): EventId[] {
  if (!rules.eventReferencesHaveHashes) return references as EventId[]
  return (references as [EventId, JsonObject][]).map(([id]) => id)
}
