/** Sending one event, of any kind. https://spec.matrix.org/v1.19/client-server-api/#sending-events-to-a-room */

import * as v from 'valibot'
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { roomCommands } from '../../../../shared/commands/rooms.ts'
import { CanonicalJsonError, canonicalJsonFor } from '../../../../shared/matrix/canonical-json.ts'
import { EventId, serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError, suspendedError } from '../../../../shared/matrix/matrix-error.ts'
import { isUserId } from '../../../../shared/matrix/user-id.ts'
import { answered } from '../../command-call.ts'
import type { Writes } from '../../persist/writes.ts'
import type { Draft } from '../../rooms/append.ts'
import { ensureLoaded } from '../../rooms/load-room.ts'
import { hasRedactLevel, redactionTarget } from '../../rooms/redact.ts'
import { membershipOf, type Room, stateEntry } from '../../rooms/room.ts'
import { replacesRoom } from './carry-over.ts'
import { checkAnnotation, checkContent } from './event-checks.ts'
import { checkGuest, mayCloseToGuests, removeGuests, takesGuests } from './guests.ts'
import { checkInvitees } from './invitees.ts'
import { joinContent } from './join-content.ts'
import { profileOf } from './profiles.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'

type Request = RequestOf<(typeof roomCommands)['sendEvent']>

/** State events that a redaction would take the meaning from for good. */
const unredactable = new Set(['m.room.create', 'm.room.server_acl'])

export function sendEventHandler(deps: RoomCommandDeps): MainClient['sendEvent'] {
  const { transactions } = deps
  const send = (request: Request, record: (response: { event_id: EventId }) => Writes) =>
    sendInRoom(deps, request, ({ event_id, changed }) => (changed ? record({ event_id }) : {}))

  return (request) => {
    if (request.txn_id === undefined) return send(request, answered)
    const what = request.redacts === undefined ? `send\n${request.type}` : `redact\n${request.redacts}`
    return transactions.once(request, `${what}\n${request.room_id}\n${request.txn_id}`, (record) =>
      send(request, record),
    )
  }
}

/** Throws what stands against it. `alongside` is written in the same commit; `changed` is false where the state was so
 *  already, and the event is the one that made it so. */
export async function sendInRoom(
  deps: RoomCommandDeps,
  request: Request & Pick<Draft, 'delay_id'>,
  alongside: (sent: { readonly event_id: EventId; readonly changed: boolean }) => Writes,
): Promise<{ event_id: EventId }> {
  const { engine, sql } = deps
  const invited = invitedElsewhere(deps, request)
  if (invited) {
    const { room_id, user_id, content } = request
    return { event_id: await deps.elsewhere.invite({ room_id, user_id, target: invited, content }) }
  }
  const sent = await engine.tryRun(request.room_id, `send ${request.type}`, async ({ room, append, write }) => {
    const draft = await draftOf(deps, room, request)
    const unchanged = await unchangedState(deps, room, draft)
    if (unchanged) {
      const writes = alongside({ event_id: unchanged, changed: false })
      if (writes.also) write(writes)
      return { event_id: unchanged, settings: false, stored: undefined }
    }
    const reaction = await checkAnnotation(sql, room, draft)
    const settings = isJoin(draft) && membershipOf(room, draft.sender) !== 'join' && replacesRoom(room)
    const tookGuests = await mayCloseToGuests(sql, room, draft)
    const { event_id } = (await append(draft)).pdu
    if (tookGuests && !takesGuests(room)) await removeGuests(sql, room, append)
    write(alongside({ event_id, changed: true }))
    if (reaction) room.reactions.add(reaction)
    return {
      event_id,
      settings,
      stored: reaction === undefined ? undefined : () => room.reactions.delete(reaction),
    }
  })
  if (!sent) throw new MatrixError('M_FORBIDDEN', 'You are not in this room')
  sent.stored?.()
  if (sent.settings) await deps.settingsFollow(request.user_id, request.room_id)
  return { event_id: sent.event_id }
}

/** The user of another server whom the event invites: their server has to sign it first. */
function invitedElsewhere({ serverName }: RoomCommandDeps, { type, state_key, content }: Request): UserId | undefined {
  if (type !== 'm.room.member' || content.membership !== 'invite') return undefined
  return isUserId(state_key) && serverNameOf(state_key) !== serverName ? (state_key as UserId) : undefined
}

function isJoin(draft: Draft): boolean {
  return draft.type === 'm.room.member' && draft.state_key === draft.sender && draft.content.membership === 'join'
}

async function draftOf(deps: RoomCommandDeps, room: Room, request: Request & Pick<Draft, 'delay_id'>): Promise<Draft> {
  const { type, state_key, user_id: sender } = request
  let content = request.content
  await checkContent(deps, room, { type, state_key, sender, content })
  let { redacts } = request
  let unaware: ReadonlySet<string> | undefined
  if (type === 'm.room.redaction' && state_key === undefined) {
    ;({ redacts, content } = redactionOf(room, request, content))
    await checkRedaction(deps, room, request, redacts)
  }
  if (type === 'm.room.member') {
    // Who authorises a join is for the server to say.
    const { join_authorised_via_users_server: _claimed, ...own } = content
    if (content.membership === 'invite' && isUserId(state_key)) {
      unaware = await checkInvitees(deps, sender, [state_key])
    }
    content = own
    if (content.membership === 'join' && state_key === sender) {
      if (request.guest && membershipOf(room, sender) !== 'join') await checkGuest(deps.sql, room)
      content = { ...(await profileOf(deps.sql, sender)), ...(await joinContent(deps, room, sender)), ...own }
    }
  }
  return {
    type,
    state_key,
    sender,
    content,
    redacts,
    device_id: request.device_id,
    txn_id: request.txn_id,
    delay_id: request.delay_id,
    origin_server_ts: request.origin_server_ts,
    unnoticed: state_key !== undefined && unaware?.has(state_key),
  }
}

/** Clients of any age put `redacts` into the path or the content; the room version decides where it ends up. */
function redactionOf(room: Room, request: Request, content: JsonObject): { redacts: EventId; content: JsonObject } {
  const named = v.safeParse(EventId, request.redacts ?? content.redacts)
  if (!named.success) throw new MatrixError('M_BAD_JSON', 'A redaction names the event that it redacts')
  const redacts = named.output
  if (room.rules.redactsInContent || content.redacts === undefined) return { redacts, content }
  const { redacts: _moved, ...rest } = content
  return { redacts, content: rest }
}

/** https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3roomsroomidredacteventidtxnid: one's own events, or
 *  any with enough power. */
async function checkRedaction(deps: RoomCommandDeps, room: Room, request: Request, redacts: EventId): Promise<void> {
  await ensureLoaded(deps.sql, room, [['m.room.power_levels', '']])
  const target = await redactionTarget(deps.sql, room, redacts)
  if (target && unredactable.has(target.type)) {
    throw new MatrixError('M_FORBIDDEN', `${target.type} cannot be redacted`)
  }
  if (target?.sender === request.user_id) return
  if (request.suspended) throw suspendedError()
  if (hasRedactLevel(room, request.user_id)) return
  throw new MatrixError('M_FORBIDDEN', 'You do not have the power to redact events of others')
}

/** Setting state to what it is makes no event. */
async function unchangedState(deps: RoomCommandDeps, room: Room, draft: Draft): Promise<EventId | undefined> {
  if (draft.state_key === undefined) return undefined
  const entry = stateEntry(room, draft.type, draft.state_key)
  if (entry?.sender !== draft.sender || membershipOf(room, draft.sender) !== 'join') return undefined
  await ensureLoaded(deps.sql, room, [[draft.type, draft.state_key]])
  try {
    return entry.loaded?.content === canonicalJsonFor(room.rules, draft.content) ? entry.event_id : undefined
  } catch (error) {
    // The builder of the event says what is wrong with it.
    if (error instanceof CanonicalJsonError) return undefined
    throw error
  }
}
