/** Identifiers. https://spec.matrix.org/v1.19/appendices/#identifier-grammar
 *  Parsing is the only way to get a brand; inside, nobody checks twice. */
import * as v from 'valibot'

const withinLimit = v.maxBytes(255)
const noNul = v.check<string, string>((s) => !s.includes('\0'), 'must not hold U+0000')

/** `@localpart:server`, at most 255 bytes; historical localparts are accepted. https://spec.matrix.org/v1.19/appendices/#user-identifiers */
export const UserId = v.pipe(v.string(), v.regex(/^@[^:]*:.+$/s), noNul, withinLimit, v.brand('UserId'))
export type UserId = v.InferOutput<typeof UserId>

/** `!opaque:server`, or from room version 12 on `!` and the create event's hash. */
export const RoomId = v.pipe(v.string(), v.regex(/^!.+$/s), noNul, withinLimit, v.brand('RoomId'))
export type RoomId = v.InferOutput<typeof RoomId>

/** `#localpart:server`. https://spec.matrix.org/v1.19/appendices/#room-aliases */
export const RoomAlias = v.pipe(v.string(), v.regex(/^#[^:]*:.+$/s), noNul, withinLimit, v.brand('RoomAlias'))
export type RoomAlias = v.InferOutput<typeof RoomAlias>

/** `$opaque:server` in room versions 1 and 2, `$hash` later. */
export const EventId = v.pipe(v.string(), v.regex(/^\$.+$/s), noNul, withinLimit, v.brand('EventId'))
export type EventId = v.InferOutput<typeof EventId>

/** Host name, IPv4 or bracketed IPv6 literal, optional port. https://spec.matrix.org/v1.19/appendices/#server-name */
export const ServerName = v.pipe(
  v.string(),
  v.regex(/^(?:\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z.-]{1,230})(?::[0-9]{1,5})?$/),
  v.brand('ServerName'),
)
export type ServerName = v.InferOutput<typeof ServerName>

/** A server's name in two. An IPv6 address keeps its brackets. */
export function serverNameParts(name: ServerName): { readonly hostname: string; readonly port: number | undefined } {
  const [, hostname = name, port] = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(name) ?? []
  return { hostname, port: port === undefined ? undefined : Number(port) }
}

/** A device's id: any text a client chose. */
export const DeviceId = v.pipe(v.string(), v.minLength(1), noNul, v.maxBytes(512), v.brand('DeviceId'))
export type DeviceId = v.InferOutput<typeof DeviceId>

/** The part after the first colon; for room ids without one, undefined. */
export function serverNameOf(id: UserId | RoomAlias): ServerName
export function serverNameOf(id: string): ServerName | undefined
export function serverNameOf(id: string): ServerName | undefined {
  const colon = id.indexOf(':')
  return colon < 0 ? undefined : (id.slice(colon + 1) as ServerName)
}

/** The part between the sigil and the first colon. */
export function localpartOf(id: UserId | RoomAlias): string {
  return id.slice(1, id.indexOf(':'))
}
