/** Checks 1 to 3 on events of other servers, for all who receive any: format, signatures, content hash. What could not be
 *  checked is refused. https://spec.matrix.org/v1.19/server-server-api/#checks-performed-on-receipt-of-a-pdu */
import { setImmediate as turn } from 'node:timers/promises'
import * as v from 'valibot'
import type { RoomRules } from '../core/room-versions.ts'
import { parsePdu, type StoredEvent } from '../matrix/event-format.ts'
import { requiredSigners } from '../matrix/event-signing.ts'
import { contentHashMatches, redactedForSigning } from '../matrix/hashes.ts'
import { EventId, RoomId, ServerName, UserId } from '../matrix/ids.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'
import { redactPdu } from '../matrix/redaction.ts'
import { verifySignaturesAside } from '../matrix/signatures.ts'
import { domainOf } from '../matrix/user-id.ts'
import type { KeyRing, KeysFound, KeysWanted } from './key-ring.ts'

/** `event` is redacted where its content is not what was hashed. */
export type CheckedPdu =
  | { readonly event: StoredEvent }
  | {
      /** Why the event is dropped. */
      readonly refused: string
      /** Known as soon as the event has its version's format. */
      readonly event_id?: EventId
    }

/** Signatures that are looked at, a server and event. */
const keyIdsMax = 8
/** Events between two turns of the event loop: a few milliseconds of work. */
const eventsPerTurn = 32

interface Parsed {
  readonly event: StoredEvent
  readonly wire: JsonObject
  readonly signers: readonly { readonly server: ServerName; readonly key_ids: readonly string[] }[]
}

/** `wires` are events of one room version as they came, each answered at its place. All keys are asked for together.
 *  Rejects only where the database does. */
export async function checkPdus(
  keyRing: Pick<KeyRing, 'load'>,
  rules: RoomRules,
  wires: readonly JsonValue[],
): Promise<CheckedPdu[]> {
  const answers: (CheckedPdu | undefined)[] = []
  const parsed: (Parsed | undefined)[] = []
  const wanted: KeysWanted[] = []
  for (const [i, wire] of wires.entries()) {
    if (i % eventsPerTurn === eventsPerTurn - 1) await turn()
    const read = parse(rules, wire)
    if ('refused' in read) answers[i] = read
    else {
      parsed[i] = read
      const validAt = validityOf(rules, read.event)
      for (const { server, key_ids } of read.signers) wanted.push({ server_name: server, key_ids, validAt })
    }
  }
  const keys = await keyRing.load(merged(wanted))
  for (let from = 0; from < parsed.length; from += eventsPerTurn) {
    const some = parsed.slice(from, from + eventsPerTurn)
    const unsigned = await Promise.all(some.map((read) => read && missingSigner(rules, read, keys)))
    for (const [i, read] of some.entries()) {
      if (!read) continue
      const server = unsigned[i]
      const { event, wire } = read
      answers[from + i] =
        server === undefined
          ? { event: withItsContent(rules, wire, event) }
          : {
              refused: `the event has no signature of ${server} that could be checked`,
              event_id: event.pdu.event_id,
            }
    }
  }
  return answers as CheckedPdu[]
}

/** The first of those that have to sign whose signature does not hold. */
async function missingSigner(
  rules: RoomRules,
  { event, wire, signers }: Parsed,
  keys: KeysFound,
): Promise<ServerName | undefined> {
  const text = Buffer.from(redactedForSigning(rules, wire))
  const validAt = validityOf(rules, event)
  for (const { server } of signers) {
    const lookup = (key_id: string) => keys.key(server, key_id, validAt)
    if (!(await verifySignaturesAside(wire.signatures, text, server, lookup))) return server
  }
  return undefined
}

function parse(rules: RoomRules, wire: JsonValue): Parsed | { readonly refused: string; readonly event_id?: EventId } {
  const event = parsePdu(rules, wire)
  if ('error' in event) return { refused: event.error }
  const object = wire as JsonObject
  const { event_id } = event.pdu
  if (!v.is(EventId, event_id) || !v.is(RoomId, event.pdu.room_id) || !v.is(UserId, event.pdu.sender)) {
    return { refused: 'an id of the event can not be one' }
  }
  const signers: Parsed['signers'][number][] = []
  for (const signer of signersOf(rules, object)) {
    const name = v.safeParse(ServerName, signer)
    if (!name.success) return { refused: `${signer.slice(0, 64)} is no server's name`, event_id }
    const server = name.output
    const key_ids = keyIdsOf(object.signatures, server)
    if (key_ids.length === 0) return { refused: `the event is not signed by ${server}`, event_id }
    signers.push({ server, key_ids })
  }
  return { event, wire: object, signers }
}

/** https://spec.matrix.org/v1.19/server-server-api/#validating-hashes-and-signatures-on-received-events and
 *  https://spec.matrix.org/v1.19/rooms/v8/#authorization-rules: who let the user in has signed that. */
function signersOf(rules: RoomRules, wire: JsonObject): Set<string> {
  const signers = new Set(requiredSigners(rules, wire))
  const { type, content } = wire
  if (rules.restrictedJoins && type === 'm.room.member' && isJsonObject(content) && content.membership === 'join') {
    const authoriser = content.join_authorised_via_users_server
    if (typeof authoriser === 'string') signers.add(domainOf(authoriser))
  }
  return signers
}

function keyIdsOf(signatures: JsonValue | undefined, server: string): string[] {
  if (!isJsonObject(signatures) || !Object.hasOwn(signatures, server)) return []
  const theirs = signatures[server]
  if (!isJsonObject(theirs)) return []
  return Object.keys(theirs)
    .filter((key_id) => key_id.startsWith('ed25519:'))
    .slice(0, keyIdsMax)
}

function validityOf(rules: RoomRules, { pdu }: StoredEvent): number | undefined {
  return rules.enforcesKeyValidity ? pdu.origin_server_ts : undefined
}

/** One wish a server and set of keys, for the latest of all times: a key that is valid then was so before. */
function merged(wanted: readonly KeysWanted[]): KeysWanted[] {
  const latest = new Map<string, KeysWanted>()
  for (const one of wanted) {
    const name = `${one.server_name} ${one.key_ids.join(' ')}`
    const other = latest.get(name)
    if (!other || (one.validAt ?? 0) > (other.validAt ?? 0)) latest.set(name, one)
  }
  return [...latest.values()]
}

function withItsContent(rules: RoomRules, wire: JsonObject, event: StoredEvent): StoredEvent {
  if (contentHashMatches(rules, wire)) return event
  const redacted = parsePdu(rules, redactPdu(rules, wire))
  if ('error' in redacted) throw new Error(`${event.pdu.event_id} has no format once it is redacted: ${redacted.error}`)
  return redacted
}
