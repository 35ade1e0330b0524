/** A room of the server under test, as another server that takes part in it sees it: it makes events there, on what it
 *  knows of the room. */
import { authEventKeys } from '../../shared/core/auth-selection.ts'
import { type RoomRules, rulesOf } from '../../shared/core/room-versions.ts'
import { buildEvent, pduFromStored, type StoredEvent, wireFromParts } from '../../shared/matrix/event-format.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import type { Pdu } from '../../shared/matrix/pdu.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import type { FederationPeer } from './federation-peer.ts'
import type { FederationServer } from './federation-server.ts'

export interface PeerWish {
  readonly type: string
  readonly state_key?: string
  readonly sender?: UserId
  readonly content: JsonObject
  /** In place of the newest that the peer knows. */
  readonly prev_events?: readonly EventId[]
  /** In place of those that the state has. */
  readonly auth_events?: readonly EventId[]
  readonly redacts?: EventId
  readonly ts?: number
  readonly depth?: number
}

export interface PeerRoom {
  readonly room_id: RoomId
  readonly rules: RoomRules
  /** Of the peer; joined. */
  readonly bob: UserId
  /** Of the server. */
  readonly alice: UserId
  /** Makes an event, which the peer then builds on. */
  make(wish: PeerWish): StoredEvent
  /** Makes one that it does not build on. */
  makeAside(wish: PeerWish): StoredEvent
  wire(event: StoredEvent): JsonObject
  /** One transaction, answered with its status and what became of each event. */
  send(
    wires: readonly JsonObject[],
    more?: { readonly edus?: readonly JsonObject[]; readonly txnId?: string },
  ): Promise<{ status: number; body: Record<string, unknown> }>
  /** Makes and sends one. */
  say(body: string): Promise<StoredEvent>
  /** Learns what is new in the room on the server. */
  catchUp(): Promise<void>
}

/** The server, as far as a peer in one of its rooms has to do with it. */
export interface PeerHost {
  readonly sql: ReadSql
  ask(
    method: string,
    uri: string,
    options: { readonly by: FederationPeer; readonly body: object },
  ): Promise<{ readonly status: number; readonly body: Record<string, unknown> }>
  /** A public room where the peer's user has power 50. */
  createRoom(room_version: string, bob: UserId): Promise<{ readonly room_id: RoomId; readonly alice: UserId }>
}

export function peerRoom(server: FederationServer, peer: FederationPeer, version = '11'): Promise<PeerRoom> {
  const { main } = server
  const host: PeerHost = {
    sql: main.database.sql,
    ask: server.ask,
    async createRoom(room_version, bob) {
      const alice = await main.user(`alice${++made}`)
      const users = rulesOf(room_version)?.creatorsHaveInfinitePower ? {} : { [alice]: 100 }
      const { room_id } = await main.commands.createRoom({
        user_id: alice,
        room_version,
        preset: 'public_chat',
        power_level_content_override: { users: { ...users, [bob]: 50 } },
      })
      return { room_id, alice }
    },
  }
  return roomOfPeer(host, peer, version)
}

export async function roomOfPeer(host: PeerHost, peer: FederationPeer, version: string): Promise<PeerRoom> {
  const rules = rulesOf(version)
  if (!rules) throw new Error(`no room version ${version}`)
  const bob = `@bob:${peer.server_name}` as UserId
  const { room_id, alice } = await host.createRoom(version, bob)
  let events: Pdu[] = []
  let txns = 0

  const build = (wish: PeerWish): StoredEvent => {
    const { type, state_key, sender = bob, content } = wish
    const auth_events =
      wish.auth_events ??
      authEventKeys(rules, { type, state_key, sender, content }).flatMap(([authType, authKey]) => {
        const found = events.findLast((pdu) => pdu.type === authType && pdu.state_key === authKey)
        return found ? [found.event_id] : []
      })
    const newest = events.at(-1)
    return buildEvent(
      rules,
      {
        room_id,
        type,
        state_key,
        sender,
        content,
        prev_events: wish.prev_events ?? (newest ? [newest.event_id] : []),
        auth_events,
        depth: wish.depth ?? (newest?.depth ?? 0) + 1,
        origin_server_ts: wish.ts ?? Date.now(),
        redacts: wish.redacts,
      },
      peer.server_name,
      peer.key,
    )
  }
  const room: PeerRoom = {
    room_id,
    rules,
    alice,
    bob,
    makeAside: build,
    make(wish) {
      const event = build(wish)
      events.push(event.pdu)
      return event
    },
    wire: ({ envelope, content }) => JSON.parse(wireFromParts(envelope, content)) as JsonObject,
    send(wires, { edus = [], txnId = `${room_id}${++txns}` } = {}) {
      const body = { origin: peer.server_name, origin_server_ts: Date.now(), pdus: [...wires], edus: [...edus] }
      return host.ask('PUT', `/_matrix/federation/v1/send/${encodeURIComponent(txnId)}`, { by: peer, body })
    },
    async say(body) {
      const event = room.make({ type: 'm.room.message', content: { msgtype: 'm.text', body } })
      const { status, body: answer } = await room.send([room.wire(event)])
      if (status !== 200) throw new Error(JSON.stringify(answer))
      return event
    },
    async catchUp() {
      const rows = await host.sql<{ event_id: EventId; envelope: string; content: string }[]>`
        select event_id, envelope, content from events join rooms using (room_nid)
        where room_id = ${room_id} and position is not null order by position`
      events = rows.map((row) => pduFromStored(rules, row.event_id, room_id, row.envelope, row.content))
    },
  }
  await room.catchUp()
  const join = room.make({ type: 'm.room.member', state_key: bob, content: { membership: 'join' } })
  const { status, body } = await room.send([room.wire(join)])
  if (status !== 200) throw new Error(`the peer could not join: ${JSON.stringify(body)}`)
  return room
}

let made = 0
