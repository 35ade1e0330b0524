/** Invitations of addresses, once somebody has shown that an address is theirs.
 *  https://spec.matrix.org/v1.19/server-server-api/#third-party-invites */
import * as v from 'valibot'
import { RemoteError } from '../../shared/federation/federation-client.ts'
import { RoomId, ServerName, serverNameOf, UserId } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { type FederationDeps, route } from './deps.ts'
import { knownRoom } from './known-room.ts'

const Name = v.pipe(v.string(), v.maxBytes(255))
/** What the identity server says: this user has the address that the token stands for. */
const Signed = v.looseObject({ mxid: UserId, token: Name, signatures: v.custom<JsonObject>(isJsonObject) })
const invitesMax = 50

export const exchangeThirdPartyInvite = route({
  method: 'PUT',
  path: '/_matrix/federation/v1/exchange_third_party_invite/:roomId',
  spec: 'server-server-api/#put_matrixfederationv1exchange_third_party_inviteroomid',
  auth: 'server',
  limit: 'federation',
  sticky: 'origin',
  params: v.object({ roomId: RoomId }),
  body: v.object({
    type: v.literal('m.room.member'),
    room_id: RoomId,
    sender: UserId,
    state_key: UserId,
    content: v.object({
      membership: v.literal('invite'),
      third_party_invite: v.object({ display_name: v.pipe(v.string(), v.maxBytes(1_000)), signed: Signed }),
    }),
  }),
  async handle({ params: { roomId }, body, origin }, { sql, config, main }) {
    const { room_id, sender, state_key: target, content } = body
    if (room_id !== roomId) throw new MatrixError('M_INVALID_PARAM', 'The event is of another room than the path')
    if (serverNameOf(sender) !== config.server_name) {
      throw new MatrixError('M_INVALID_PARAM', `${sender} is not a user of this server`)
    }
    await knownRoom(sql, room_id, origin)
    const { display_name, signed } = content.third_party_invite
    await main.inviteByThirdParty({ room_id, sender, target, display_name, signed: signed as JsonObject })
    return {}
  },
})

/** From an identity server, which nobody knows: what it says holds by the signature that the room asks for, and that whoever
 *  holds the room checks. */
export const onBindThirdParty = route({
  method: 'PUT',
  path: '/_matrix/federation/v1/3pid/onbind',
  spec: 'server-server-api/#put_matrixfederationv13pidonbind',
  auth: 'none',
  limit: 'federation',
  body: v.object({
    medium: Name,
    address: Name,
    mxid: UserId,
    invites: v.pipe(
      v.array(v.object({ mxid: UserId, room_id: RoomId, sender: UserId, signed: Signed })),
      v.maxLength(invitesMax),
    ),
  }),
  async handle({ body: { mxid, address, invites } }, deps) {
    if (serverNameOf(mxid) !== deps.config.server_name) {
      throw new MatrixError('M_INVALID_PARAM', `${mxid} is not a user of this server`)
    }
    const display_name = shortened(address)
    const own = invites.filter((invite) => invite.mxid === mxid && invite.signed.mxid === mxid)
    await Promise.all(
      own.map((invite) => exchange(deps, { ...invite, signed: invite.signed as JsonObject, display_name })),
    )
    return {}
  },
})

interface Invite {
  readonly mxid: UserId
  readonly room_id: RoomId
  readonly sender: UserId
  readonly signed: JsonObject
  readonly display_name: string
}

/** By the inviter's server. One invitation that comes to nothing keeps no other back. */
async function exchange({ config, main, federation }: FederationDeps, invite: Invite): Promise<void> {
  const { room_id, sender, mxid, signed, display_name } = invite
  const server = serverNameOf(sender)
  try {
    if (server === config.server_name) {
      await main.inviteByThirdParty({ room_id, sender, target: mxid, display_name, signed })
    } else if (v.is(ServerName, server)) {
      await federation.client.json(server as ServerName, {
        method: 'PUT',
        uri: `/_matrix/federation/v1/exchange_third_party_invite/${encodeURIComponent(room_id)}`,
        body: {
          type: 'm.room.member',
          room_id,
          sender,
          state_key: mxid,
          content: { membership: 'invite', third_party_invite: { display_name, signed } },
        },
      })
    }
  } catch (error) {
    if (!(error instanceof RemoteError) && !(error instanceof MatrixError)) throw error
    if (error instanceof MatrixError && error.errcode === 'M_UNAVAILABLE') throw error
  }
}

/** An address as the room may see it. */
function shortened(address: string): string {
  return address
    .split('@')
    .map((part) => `${part.slice(0, 2)}...`)
    .join('@')
}
