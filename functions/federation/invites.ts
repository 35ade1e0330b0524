/** Invitations of users of this server: signed by it, they may become events of their rooms.
 *  https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room */
import * as v from 'valibot'
import { Content } from '../../shared/commands/rooms.ts'
import { rulesOf } from '../../shared/core/room-versions.ts'
import { serverAcl } from '../../shared/core/server-acl.ts'
import { checkPdus } from '../../shared/federation/check-pdus.ts'
import { parsePdu } from '../../shared/matrix/event-format.ts'
import { signEvent } from '../../shared/matrix/event-signing.ts'
import { EventId, RoomId, type ServerName, serverNameOf } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { parseJsonObject } from '../../shared/matrix/parse-json.ts'
import { receivingRooms } from '../../shared/storage/receiving-rooms.ts'
import { type FederationDeps, route } from './deps.ts'

const invite = {
  method: 'PUT',
  auth: 'server',
  limit: 'federation',
  sticky: 'origin',
  bodyBytesMax: 1024 * 1024,
  params: v.object({ roomId: RoomId, eventId: EventId }),
} as const

const stripped = v.optional(v.pipe(v.array(v.unknown()), v.maxLength(100)), [])

export const putInvite = route({
  ...invite,
  path: '/_matrix/federation/v2/invite/:roomId/:eventId',
  spec: 'server-server-api/#put_matrixfederationv2inviteroomideventid',
  body: v.object({ room_version: v.string(), event: Content, invite_room_state: stripped }),
  async handle({ params, body, origin }, deps) {
    const { room_version, event, invite_room_state } = body
    return {
      event: await received(deps, { ...params, origin, room_version, wire: event, stripped: invite_room_state }),
    }
  },
})

/** What older servers send, for rooms of the first two versions.
 *  https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1inviteroomideventid */
export const putInviteV1 = route({
  ...invite,
  path: '/_matrix/federation/v1/invite/:roomId/:eventId',
  spec: 'server-server-api/#put_matrixfederationv1inviteroomideventid',
  body: Content,
  async handle({ params, body, origin }, deps) {
    const { unsigned } = body
    const state = v.safeParse(v.object({ invite_room_state: stripped }), unsigned)
    const told = state.success ? state.output.invite_room_state : []
    const event = await received(deps, { ...params, origin, room_version: '1', wire: body, stripped: told })
    return [200, { event }]
  },
})

async function received(
  deps: FederationDeps,
  given: {
    readonly roomId: RoomId
    readonly eventId: EventId
    readonly origin: ServerName
    readonly room_version: string
    readonly wire: JsonObject
    readonly stripped: readonly unknown[]
  },
): Promise<JsonObject> {
  const { config, federation, main, sql } = deps
  const { roomId: room_id, eventId, origin, room_version, stripped } = given
  const rules = rulesOf(room_version)
  if (!rules) {
    throw new MatrixError('M_INCOMPATIBLE_ROOM_VERSION', `Room version ${room_version} is not known here`, {
      extra: { room_version },
    })
  }
  const { unsigned: _unsigned, ...wire } = given.wire
  const [checked] = await checkPdus(federation.keyRing, rules, [wire])
  if (!checked || 'refused' in checked) throw new MatrixError('M_BAD_JSON', checked?.refused ?? 'The body is no event')
  const { pdu } = checked.event
  const bad = (sentence: string) => new MatrixError('M_INVALID_PARAM', sentence)
  if (pdu.event_id !== eventId) throw bad(`The event's id is ${pdu.event_id}, not that of the path`)
  if (pdu.room_id !== room_id) throw bad('The event is of another room than the path')
  if (pdu.type !== 'm.room.member' || pdu.content.membership !== 'invite') throw bad('The event is no invitation')
  if (serverNameOf(pdu.sender) !== origin) throw bad(`The event is not by a user of ${origin}`)
  if (pdu.state_key === undefined || serverNameOf(pdu.state_key) !== config.server_name) {
    throw bad('The event invites nobody of this server')
  }
  const room = (await receivingRooms(sql, [room_id])).get(room_id)
  if (room?.joined && room.acl !== null && !serverAcl(parseJsonObject(room.acl)).allows(origin)) {
    throw new MatrixError('M_FORBIDDEN', 'Your server is banned from the room')
  }
  // As it came but for the signature: its own content, also where a hash did not fit.
  const signed = signEvent(rules, wire, config.server_name, federation.signingKeys[0])
  const event = parsePdu(rules, signed)
  if ('error' in event) throw new MatrixError('M_BAD_JSON', event.error)
  await main.receiveInvite({
    room_id,
    room_version,
    origin,
    event: { event_id: pdu.event_id, envelope: event.envelope, content: event.content },
    stripped: [...stripped],
  })
  return signed
}
