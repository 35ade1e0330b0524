/** What other servers send. https://spec.matrix.org/v1.19/server-server-api/#transactions */
import * as v from 'valibot'
import type { MainClient } from '../../shared/commands/registry.ts'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { serverAcl } from '../../shared/core/server-acl.ts'
import { checkPdus } from '../../shared/federation/check-pdus.ts'
import type { StoredEvent } from '../../shared/matrix/event-format.ts'
import { eventIdOf } from '../../shared/matrix/hashes.ts'
import { RoomId, ServerName, serverNameOf } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../shared/matrix/json-value.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { parseJsonObject } from '../../shared/matrix/parse-json.ts'
import { type ReceivingRoom, receivingRooms } from '../../shared/storage/receiving-rooms.ts'
import { type FederationDeps, route } from './deps.ts'

const pdusMax = 50
const edusMax = 100
/** So many events of the largest size, and as many bytes again of what is said in passing. */
const bodyBytesMax = 10 * 1024 * 1024

/** What becomes of each event, by its id. */
type Results = Record<string, { readonly error?: string }>

export const sendTransaction = route({
  method: 'PUT',
  path: '/_matrix/federation/v1/send/:txnId',
  spec: 'server-server-api/#put_matrixfederationv1sendtxnid',
  auth: 'server',
  limit: 'federation',
  sticky: 'origin',
  bodyBytesMax,
  params: v.object({ txnId: v.pipe(v.string(), v.minLength(1), v.maxLength(255)) }),
  body: v.object({
    origin: ServerName,
    origin_server_ts: v.number(),
    pdus: v.optional(v.pipe(v.array(v.unknown()), v.maxLength(pdusMax)), []),
    edus: v.optional(v.pipe(v.array(v.unknown()), v.maxLength(edusMax)), []),
  }),
  async handle({ body, origin }, deps) {
    if (body.origin !== origin) {
      throw new MatrixError('M_INVALID_PARAM', `The transaction is of ${body.origin}, and was sent by ${origin}`)
    }
    const results: Results = {}
    await receivePdus(deps, origin, body.pdus as JsonValue[], results)
    const edus = body.edus.flatMap((edu) => eduOf(edu as JsonValue) ?? [])
    if (edus.length > 0) await deps.main.receiveEdus({ origin, edus })
    return { pdus: results }
  },
})

function eduOf(edu: JsonValue): { edu_type: string; content: JsonObject } | undefined {
  if (!isJsonObject(edu) || typeof edu.edu_type !== 'string' || !isJsonObject(edu.content)) return undefined
  return { edu_type: edu.edu_type, content: edu.content }
}

async function receivePdus(
  deps: FederationDeps,
  origin: ServerName,
  wires: readonly JsonValue[],
  results: Results,
): Promise<void> {
  const byRoom = new Map<RoomId, JsonObject[]>()
  for (const wire of wires) {
    const named = isJsonObject(wire) ? wire.room_id : undefined
    // What names no room has no room version, and so no id by which to say that.
    if (!isJsonObject(wire) || !v.is(RoomId, named)) continue
    const room_id = named as RoomId
    const others = byRoom.get(room_id)
    if (others) others.push(wire)
    else byRoom.set(room_id, [wire])
  }
  if (byRoom.size === 0) return
  const rooms = await receivingRooms(deps.sql, [...byRoom.keys()])
  await Promise.all(
    Array.from(byRoom, async ([room_id, events]) => {
      const room = rooms.get(room_id)
      const refusal = room ? refusalOf(room, origin) : 'This server is not in the room'
      if (!room || refusal !== undefined) {
        const others = room && !room.joined ? await retract(deps, origin, room_id, room, events, results) : events
        refuse(room, others, refusal ?? '', results)
      } else await receiveInRoom(deps, origin, room_id, room, events, results)
    }),
  )
}

/** https://spec.matrix.org/v1.19/server-server-api/#server-access-control-lists-acls */
function refusalOf(room: ReceivingRoom, origin: ServerName): string | undefined {
  if (!room.joined) return 'This server is not in the room'
  if (room.acl !== null && !serverAcl(parseJsonObject(room.acl)).allows(origin)) {
    return 'Your server is banned from the room'
  }
  return rulesOf(room.room_version) ? undefined : `Room version ${room.room_version} is not known`
}

/** What concerns users of this server in a room that it is not in: an invitation is taken back, a knock is refused. Returns the
 *  other events. */
async function retract(
  deps: FederationDeps,
  origin: ServerName,
  room_id: RoomId,
  { room_version }: ReceivingRoom,
  wires: readonly JsonObject[],
  results: Results,
): Promise<JsonObject[]> {
  const isOurs = ({ type, state_key, content }: JsonObject) =>
    type === 'm.room.member' &&
    typeof state_key === 'string' &&
    serverNameOf(state_key) === deps.config.server_name &&
    isJsonObject(content) &&
    (content.membership === 'leave' || content.membership === 'ban')
  const ours = wires.filter(isOurs)
  const rules = rulesOf(room_version)
  if (ours.length === 0 || !rules) return [...wires]
  for (const checked of await checkPdus(deps.federation.keyRing, rules, ours)) {
    if (!('event' in checked)) continue
    const { pdu, envelope, content } = checked.event
    results[pdu.event_id] = {}
    const event = { event_id: pdu.event_id, envelope, content }
    await deps.main.receiveRetraction({ room_id, room_version, origin, event })
  }
  return wires.filter((wire) => !isOurs(wire))
}

function refuse(room: ReceivingRoom | undefined, wires: readonly JsonObject[], error: string, results: Results): void {
  const rules = rulesOf(room?.room_version ?? '') ?? rulesOf('11')
  for (const wire of wires) {
    const id = rules && idOf(rules, wire)
    if (id !== undefined) results[id] = { error }
  }
}

function idOf(rules: NonNullable<ReturnType<typeof rulesOf>>, wire: JsonObject): string | undefined {
  try {
    return eventIdOf(rules, wire)
  } catch {
    // What has no canonical form has no id.
    return undefined
  }
}

async function receiveInRoom(
  deps: FederationDeps,
  origin: ServerName,
  room_id: RoomId,
  { room_version }: ReceivingRoom,
  wires: readonly JsonObject[],
  results: Results,
): Promise<void> {
  const rules = rulesOf(room_version)
  if (!rules) return
  const events: StoredEvent[] = []
  const seen = new Set<string>()
  for (const [i, checked] of (await checkPdus(deps.federation.keyRing, rules, wires)).entries()) {
    if ('event' in checked) {
      const { event_id } = checked.event.pdu
      if (!seen.has(event_id)) events.push(checked.event)
      seen.add(event_id)
      results[event_id] ??= {}
      continue
    }
    const id = checked.event_id ?? idOf(rules, wires[i] ?? {})
    if (id !== undefined) results[id] = { error: checked.refused }
  }
  if (events.length > 0) await deps.main.receivePdus(commandOf(origin, room_id, room_version, events))
}

function commandOf(
  origin: ServerName,
  room_id: RoomId,
  room_version: string,
  events: readonly StoredEvent[],
): Parameters<MainClient['receivePdus']>[0] {
  return {
    origin,
    room_id,
    room_version,
    events: events.map(({ pdu, envelope, content }) => ({ event_id: pdu.event_id, envelope, content })),
  }
}
