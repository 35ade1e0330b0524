/** Users of other servers who join, leave and knock by way of this one: an event to complete, and the event as it comes back.
 *  https://spec.matrix.org/v1.19/server-server-api/#joining-rooms */
import * as v from 'valibot'
import { Content } from '../../shared/commands/rooms.ts'
import type { RoomRules } from '../../shared/core/room-versions.ts'
import { checkPdus } from '../../shared/federation/check-pdus.ts'
import { isResponsible } from '../../shared/federation/restricted-join.ts'
import { RawJson } from '../../shared/http/route.ts'
import type { StoredEvent } from '../../shared/matrix/event-format.ts'
import { signEvent } from '../../shared/matrix/event-signing.ts'
import { EventId, RoomId, type ServerName, serverNameOf, UserId } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { strippedStateTexts } from '../../shared/storage/stripped-state.ts'
import { type FederationDeps, route } from './deps.ts'
import { knownRoom } from './known-room.ts'
import { sendJoinReply } from './send-join-reply.ts'

type Membership = 'join' | 'leave' | 'knock'

/** A query key that may be there several times. */
const versionsOf = (search: URLSearchParams): readonly string[] => {
  const given = search.getAll('ver')
  // https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1make_joinroomiduserid
  return given.length === 0 ? ['1'] : given
}

const makeRoute = (membership: Membership) =>
  route({
    method: 'GET',
    path: `/_matrix/federation/v1/make_${membership}/:roomId/:userId`,
    spec: `server-server-api/#get_matrixfederationv1make_${membership}roomiduserid`,
    auth: 'server',
    limit: 'federation',
    sticky: 'origin',
    params: v.object({ roomId: RoomId, userId: UserId }),
    async handle({ params: { roomId: room_id, userId: user_id }, origin, request }, { sql, main }) {
      if (serverNameOf(user_id) !== origin) {
        throw new MatrixError('M_FORBIDDEN', `${user_id} is not a user of ${origin}`)
      }
      const { version } = await knownRoom(sql, room_id, origin)
      if (membership !== 'leave' && !versionsOf(request.searchParams).includes(version)) {
        throw new MatrixError('M_INCOMPATIBLE_ROOM_VERSION', `The room has version ${version}`, {
          extra: { room_version: version },
        })
      }
      return main.makeMembershipEvent({ room_id, user_id, membership })
    },
  })

export const makeJoin = makeRoute('join')
export const makeLeave = makeRoute('leave')
export const makeKnock = makeRoute('knock')

const sendParams = v.object({ roomId: RoomId, eventId: EventId })
interface Sent {
  readonly params: { readonly roomId: RoomId; readonly eventId: EventId }
  readonly body: JsonObject
  readonly origin: ServerName
}

/** The event, stored. */
async function received(
  { params: { roomId: room_id, eventId }, body, origin }: Sent,
  membership: Membership,
  deps: FederationDeps,
): Promise<StoredEvent> {
  const rules = await knownRoom(deps.sql, room_id, origin)
  const wire = authorised(rules, body, deps)
  const [checked] = await checkPdus(deps.federation.keyRing, rules, [wire])
  if (!checked || 'refused' in checked) {
    throw new MatrixError('M_BAD_JSON', checked?.refused ?? 'The body is no event')
  }
  const { pdu, envelope, content } = checked.event
  const { type, state_key, sender } = pdu
  const bad = (sentence: string) => new MatrixError('M_INVALID_PARAM', sentence)
  if (pdu.event_id !== eventId) throw bad(`The event's id is ${pdu.event_id}, not that of the path`)
  if (pdu.room_id !== room_id) throw bad('The event is of another room than the path')
  if (type !== 'm.room.member' || pdu.content.membership !== membership) {
    throw bad(`The event is not one of membership ${membership}`)
  }
  if (state_key !== sender || serverNameOf(sender) !== origin) throw bad(`The event is not by a user of ${origin}`)
  await deps.main.receiveMembership({
    room_id,
    room_version: rules.version,
    origin,
    event: { event_id: pdu.event_id, envelope, content },
  })
  return checked.event
}

/** https://spec.matrix.org/v1.19/server-server-api/#restricted-rooms: whom a user of this server lets in, this server vouches for. */
function authorised(rules: RoomRules, body: JsonObject, { config, federation }: FederationDeps): JsonObject {
  const { content } = body
  const by = isJsonObject(content) ? content.join_authorised_via_users_server : undefined
  if (!isResponsible(rules, body, config.server_name) || typeof by !== 'string') return body
  return isJsonObject(body.signatures) ? signEvent(rules, body, config.server_name, federation.signingKeys[0]) : body
}

const send = {
  method: 'PUT',
  auth: 'server',
  limit: 'federation',
  sticky: 'origin',
  params: sendParams,
  body: Content,
} as const

export const sendJoin = route({
  ...send,
  path: '/_matrix/federation/v2/send_join/:roomId/:eventId',
  spec: 'server-server-api/#put_matrixfederationv2send_joinroomideventid',
  query: v.object({ omit_members: v.optional(v.picklist(['true', 'false']), 'false') }),
  async handle({ query: { omit_members }, ...sent }, deps) {
    const event = await received(sent, 'join', deps)
    return sendJoinReply(deps, event, { omitMembers: omit_members === 'true' })
  },
})

/** What older servers send. https://spec.matrix.org/v1.19/server-server-api/#put_matrixfederationv1send_joinroomideventid */
export const sendJoinV1 = route({
  ...send,
  path: '/_matrix/federation/v1/send_join/:roomId/:eventId',
  spec: 'server-server-api/#put_matrixfederationv1send_joinroomideventid',
  async handle(sent, deps) {
    const event = await received(sent, 'join', deps)
    return sendJoinReply(deps, event, { omitMembers: false, inPair: true })
  },
})

export const sendLeave = route({
  ...send,
  path: '/_matrix/federation/v2/send_leave/:roomId/:eventId',
  spec: 'server-server-api/#put_matrixfederationv2send_leaveroomideventid',
  async handle(sent, deps) {
    await received(sent, 'leave', deps)
    return {}
  },
})

export const sendLeaveV1 = route({
  ...send,
  path: '/_matrix/federation/v1/send_leave/:roomId/:eventId',
  spec: 'server-server-api/#put_matrixfederationv1send_leaveroomideventid',
  async handle(sent, deps) {
    await received(sent, 'leave', deps)
    return [200, {}]
  },
})

export const sendKnock = route({
  ...send,
  path: '/_matrix/federation/v1/send_knock/:roomId/:eventId',
  spec: 'server-server-api/#put_matrixfederationv1send_knockroomideventid',
  async handle(sent, deps) {
    await received(sent, 'knock', deps)
    const { roomId } = sent.params
    const rules = await knownRoom(deps.sql, roomId, sent.origin)
    const state = await strippedStateTexts(deps.sql, roomId, rules)
    return new RawJson(`{"knock_room_state":[${state.join(',')}]}`)
  },
})
