/** How a user of this server enters or leaves a room that other servers hold: one of them makes an event, this server signs
 *  it, and that one takes it into the room. https://spec.matrix.org/v1.19/server-server-api/#joining-rooms */
import * as v from 'valibot'
import { type RoomRules, roomRules, rulesOf } from '../../../shared/core/room-versions.ts'
import type { Federation } from '../../../shared/federation/federation.ts'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { buildEvent, type StoredEvent, wireFromParts } from '../../../shared/matrix/event-format.ts'
import { EventId, type RoomId, type ServerName, type UserId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import { limits } from '../../../shared/matrix/limits.ts'
import { type Errcode, MatrixError, statusOf } from '../../../shared/matrix/matrix-error.ts'
import { parseJsonObject } from '../../../shared/matrix/parse-json.ts'

export interface HandshakeWish {
  readonly membership: 'join' | 'leave' | 'knock'
  readonly room_id: RoomId
  readonly user_id: UserId
  /** What the event says beside the membership. */
  readonly content: JsonObject
  /** Asked in this order. */
  readonly servers: readonly ServerName[]
}

export interface Handshake {
  readonly server: ServerName
  readonly rules: RoomRules
  readonly event: StoredEvent
  /** To the event. */
  readonly answer: JsonObject
}

const Reference = v.union([EventId, v.strictTuple([EventId, v.object({ sha256: v.optional(v.string()) })])])
const template = v.object({
  room_version: v.optional(v.string(), '1'),
  event: v.object({
    content: v.custom<JsonObject>(isJsonObject),
    depth: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
    prev_events: v.pipe(v.array(Reference), v.maxLength(limits.prevEvents)),
    auth_events: v.pipe(v.array(Reference), v.maxLength(limits.authEvents)),
  }),
})

/** A join to a large room takes its server a while, and comes with all of its state. */
const joinLimits = { totalMs: 180_000, firstByteMs: 120_000, bytesMax: 192 * 1024 * 1024 }
const serversMax = 8

/** Throws what the first server that refused said, or M_UNKNOWN with status 502 where none gave an answer. */
export async function handshake(
  { client, signingKeys }: Pick<Federation, 'client' | 'signingKeys'>,
  own: ServerName,
  now: () => number,
  wish: HandshakeWish,
): Promise<Handshake> {
  const { membership, room_id, user_id } = wish
  const path = (step: 'make' | 'send', last: string) =>
    `/_matrix/federation/${step === 'send' && membership !== 'knock' ? 'v2' : 'v1'}/${step}_${membership}/${encodeURIComponent(room_id)}/${encodeURIComponent(last)}`
  const versions =
    membership === 'leave'
      ? ''
      : `?${Object.keys(roomRules)
          .map((version) => `ver=${encodeURIComponent(version)}`)
          .join('&')}`

  async function attempt(server: ServerName): Promise<Handshake> {
    const made = v.safeParse(
      template,
      await client.json(server, { method: 'GET', uri: `${path('make', user_id)}${versions}` }),
    )
    if (!made.success) throw new RemoteError('bad_answer', `${server} made no event for ${user_id}`)
    const { room_version, event } = made.output
    const rules = rulesOf(room_version)
    if (!rules) {
      throw new MatrixError(
        'M_UNSUPPORTED_ROOM_VERSION',
        `The room has version ${room_version}, which is not known here`,
      )
    }
    const by = event.content.join_authorised_via_users_server
    const reference_hashes = new Map<EventId, string>()
    const idsOf = (references: typeof event.prev_events): EventId[] =>
      references.map((reference) => {
        if (typeof reference === 'string') return reference
        const [id, { sha256 }] = reference
        if (sha256 !== undefined) reference_hashes.set(id, sha256)
        return id
      })
    const signed = buildEvent(
      rules,
      {
        room_id,
        type: 'm.room.member',
        state_key: user_id,
        sender: user_id,
        content: {
          ...wish.content,
          ...(membership === 'join' && typeof by === 'string' ? { join_authorised_via_users_server: by } : {}),
          membership,
        },
        prev_events: idsOf(event.prev_events),
        auth_events: idsOf(event.auth_events),
        reference_hashes,
        depth: event.depth,
        origin_server_ts: now(),
      },
      own,
      signingKeys[0],
    )
    const answer = await client.json(server, {
      method: 'PUT',
      uri: path('send', signed.pdu.event_id),
      body: parseJsonObject(wireFromParts(signed.envelope, signed.content)),
      ...(membership === 'join' ? { limits: joinLimits } : {}),
    })
    return { server, rules, event: signed, answer }
  }

  let refusal: RemoteError | MatrixError | undefined
  let failure: RemoteError | undefined
  for (const server of wish.servers.slice(0, serversMax)) {
    try {
      return await attempt(server)
    } catch (error) {
      if (error instanceof MatrixError) refusal ??= error
      else if (!(error instanceof RemoteError)) throw error
      else if (error.reason === 'refused' && (error.status ?? 500) < 500) refusal ??= error
      else failure ??= error
    }
  }
  if (refusal instanceof MatrixError) throw refusal
  if (refusal) throw refusalAsError(refusal)
  if (failure) throw new MatrixError('M_UNKNOWN', failure.message, { status: 502 })
  throw new MatrixError('M_NOT_FOUND', 'This server does not know the room, nor a server that is in it')
}

function refusalAsError({ errcode, message, status }: RemoteError): MatrixError {
  const isKnown = errcode !== undefined && Object.hasOwn(statusOf, errcode) && errcode !== 'M_UNAUTHORIZED'
  return isKnown
    ? new MatrixError(errcode as Errcode, message)
    : new MatrixError('M_FORBIDDEN', message, { status: status === 404 ? 404 : 403 })
}
