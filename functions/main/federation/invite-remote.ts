/** Invitations to users of other servers: their server signs them before they are events of the room.
 *  https://spec.matrix.org/v1.19/server-server-api/#inviting-to-a-room */
import * as v from 'valibot'
import type { Federation } from '../../../shared/federation/federation.ts'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { canonicalJson } from '../../../shared/matrix/canonical-json.ts'
import { buildEvent, type EventDraft, type StoredEvent, wireFromParts } from '../../../shared/matrix/event-format.ts'
import { isSignedBy } from '../../../shared/matrix/event-signing.ts'
import { type EventId, type RoomId, type ServerName, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../../shared/matrix/json-value.ts'
import { type Errcode, MatrixError, statusOf } from '../../../shared/matrix/matrix-error.ts'
import { parseJsonObject } from '../../../shared/matrix/parse-json.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { strippedStateTexts } from '../../../shared/storage/stripped-state.ts'
import { answered } from '../command-call.ts'
import type { RoomEngine } from '../rooms/engine.ts'
import { eventTemplate } from '../rooms/event-template.ts'
import { receiveEvents } from '../rooms/receive-events.ts'
import { membershipOf } from '../rooms/room.ts'

export interface InviteDeps {
  readonly sql: MainSql
  readonly engine: RoomEngine
  readonly federation: Pick<Federation, 'client' | 'keyRing' | 'signingKeys'>
  readonly serverName: ServerName
}

export interface InviteWish {
  readonly room_id: RoomId
  readonly user_id: UserId
  readonly target: UserId
  /** What the event says beside the membership. */
  readonly content: JsonObject
}

const inviteAnswer = v.object({ event: v.custom<JsonObject>(isJsonObject) })
const answerMs = 30_000

/** Throws what the rules say, what the other server says, and M_UNKNOWN with status 502 where that gives no answer. */
export async function inviteRemote(
  deps: InviteDeps,
  { room_id, user_id, target, content }: InviteWish,
): Promise<EventId> {
  const { engine, federation, serverName, sql } = deps
  const server = serverNameOf(target)
  // Not one task: the room goes on while the other server is asked.
  const { draft, rules } = await engine.run(room_id, 'invite', async (task) => {
    const { room } = task
    if (membershipOf(room, target) === 'join') {
      throw new MatrixError('M_FORBIDDEN', `${target} is in the room already`)
    }
    const template = await eventTemplate(engine.deps, room, {
      type: 'm.room.member',
      state_key: target,
      sender: user_id,
      content: { ...content, membership: 'invite' },
    })
    await task.drained()
    return { draft: template, rules: room.rules }
  })
  const reference_hashes = new Map<EventId, string>()
  const event = buildEvent(
    rules,
    {
      ...(draft as unknown as EventDraft),
      prev_events: idsOf(draft.prev_events, reference_hashes),
      auth_events: idsOf(draft.auth_events, reference_hashes),
      reference_hashes,
    },
    serverName,
    federation.signingKeys[0],
  )
  const stripped = await strippedStateTexts(sql, room_id, rules)
  const wire = parseJsonObject(wireFromParts(event.envelope, event.content))
  const signed = await signedByTarget(deps, server, {
    uri: `/_matrix/federation/v2/invite/${encodeURIComponent(room_id)}/${encodeURIComponent(event.pdu.event_id)}`,
    body: {
      room_version: rules.version,
      event: wire,
      invite_room_state: stripped.map((text) => parseJsonObject(text)),
    },
  })
  const signature = isJsonObject(signed.signatures) ? signed.signatures[server] : undefined
  const both: JsonObject = {
    ...wire,
    signatures: { ...(wire.signatures as JsonObject), ...(isJsonObject(signature) ? { [server]: signature } : {}) },
  }
  const key_ids = isJsonObject(signature) ? Object.keys(signature).slice(0, 8) : []
  const validAt = rules.enforcesKeyValidity ? event.pdu.origin_server_ts : undefined
  const keys = await federation.keyRing.load([{ server_name: server, key_ids, validAt }])
  if (!isSignedBy(rules, both, server, (key_id) => keys.key(server, key_id, validAt))) {
    throw new MatrixError('M_UNKNOWN', `${server} did not sign the invitation`, { status: 502 })
  }
  const [receipt] = await receiveEvents(engine, room_id, [withSignatures(event, both.signatures ?? {})], {
    outbound: true,
    also: answered({ event_id: event.pdu.event_id }),
  })
  if (receipt?.outcome === 'accepted' || receipt?.outcome === 'known') return event.pdu.event_id
  const reason = receipt && 'reason' in receipt ? receipt.reason : 'The room has moved on'
  throw new MatrixError('M_FORBIDDEN', reason)
}

function withSignatures(event: StoredEvent, signatures: JsonValue): StoredEvent {
  return { ...event, envelope: canonicalJson({ ...parseJsonObject(event.envelope), signatures }) }
}

/** Plain ids; the hashes that older versions give with them go into `hashes`. */
function idsOf(references: JsonValue | undefined, hashes: Map<EventId, string>): EventId[] {
  if (!Array.isArray(references)) return []
  return references.map((reference) => {
    if (!Array.isArray(reference)) return reference as EventId
    const [id, named] = reference as [EventId, { sha256?: string }]
    if (named.sha256 !== undefined) hashes.set(id, named.sha256)
    return id
  })
}

async function signedByTarget(
  { federation }: InviteDeps,
  server: ServerName,
  request: { readonly uri: string; readonly body: JsonObject },
): Promise<JsonObject> {
  try {
    const answer = await federation.client.json(server, {
      method: 'PUT',
      ...request,
      limits: { totalMs: answerMs, firstByteMs: answerMs },
    })
    return v.parse(inviteAnswer, answer).event
  } catch (error) {
    if (v.isValiError(error))
      throw new MatrixError('M_UNKNOWN', `${server} did not sign the invitation`, { status: 502 })
    if (!(error instanceof RemoteError)) throw error
    const { errcode, status, message } = error
    if (error.reason !== 'refused' || (status ?? 500) >= 500)
      throw new MatrixError('M_UNKNOWN', message, { status: 502 })
    const isKnown = errcode !== undefined && Object.hasOwn(statusOf, errcode) && errcode !== 'M_UNAUTHORIZED'
    throw new MatrixError(isKnown ? (errcode as Errcode) : 'M_FORBIDDEN', message)
  }
}
