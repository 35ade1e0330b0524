/** What users of this server do in rooms that other servers hold. https://spec.matrix.org/v1.19/server-server-api/#joining-rooms */
import * as v from 'valibot'
import type { Clock } from '../../../shared/clock.ts'
import { rulesOf } from '../../../shared/core/room-versions.ts'
import type { Federation } from '../../../shared/federation/federation.ts'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { buildEvent, type StoredEvent } from '../../../shared/matrix/event-format.ts'
import { type EventId, type RoomId, ServerName, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { answered } from '../command-call.ts'
import type { KeyedQueue } from '../keyed-queue.ts'
import { pushOutcome } from '../rooms/advance.ts'
import { emptyRoom } from '../rooms/room.ts'
import type { EventFetcher } from './fetch-events.ts'
import { receiveWithGaps, UnfoundedError } from './fill-gap.ts'
import { handshake } from './handshake.ts'
import { type InviteWish, inviteRemote } from './invite-remote.ts'
import { type JoinDeps, joinAsSigned, storeJoin } from './join-remote.ts'
import { newRoom, type OutsideRoom, outsideRoom, outsideWrites, standingOf } from './outside-room.ts'

export interface ElsewhereDeps extends JoinDeps {
  readonly federation: Pick<Federation, 'keyRing' | 'client' | 'signingKeys'>
  readonly serverName: ServerName
  readonly clock: Clock
  readonly fetcher: EventFetcher
  /** By room: what is stored of one room is stored by one at a time. */
  readonly queue: KeyedQueue
}

export interface ElsewhereRequest {
  readonly room_id: RoomId
  readonly user_id: UserId
  /** Profile and reason. */
  readonly content: JsonObject
  /** Servers that are said to be in the room. */
  readonly via: readonly ServerName[]
}

export interface MembershipElsewhere {
  /** `isHere`: whether the room has become one of this server's meanwhile; then nothing is done, and undefined is returned. */
  join(request: ElsewhereRequest, isHere: () => Promise<boolean>): Promise<EventId | undefined>
  /** Joins a room that is here on the word of another server's member. */
  joinThrough(request: ElsewhereRequest): Promise<EventId>
  knock(request: ElsewhereRequest): Promise<EventId>
  /** Invites a user of another server to a room of this one. */
  invite(wish: InviteWish): Promise<EventId>
  /** Takes an invitation of a user of this server, where nobody of it is in the room. `stripped`: JSON of what they are told.
   *  `unnoticed`: it does not notify them. */
  invited(
    room: { readonly room_id: RoomId; readonly room_version: string },
    event: StoredEvent,
    told: { readonly stripped: string; readonly unnoticed: boolean },
  ): Promise<void>
  /** Takes back an invitation or a knock, as others say. false: they have no say in that. */
  retracted(room: { readonly room_id: RoomId; readonly room_version: string }, event: StoredEvent): Promise<boolean>
  /** Refuses an invitation, or takes a knock back. undefined: the user has neither. */
  leave(request: ElsewhereRequest): Promise<EventId | undefined>
}

export function createMembershipElsewhere(deps: ElsewhereDeps): MembershipElsewhere {
  const { sql, federation, serverName, clock, queue, committer, nids, engine } = deps
  const now = () => clock.now()

  async function serversFor({ room_id, user_id, via }: ElsewhereRequest): Promise<ServerName[]> {
    const standing = await standingOf(sql, room_id, user_id)
    const inviter = standing?.membership === 'invite' ? serverNameOf(standing.sender) : undefined
    const named = inviter === undefined ? via : [...via, inviter]
    // Who names no server leaves the one that the room's id names, as it is in most rooms.
    const names = named.length > 0 ? named : [serverNameOf(room_id)]
    const valid = names.flatMap((name) => (v.is(ServerName, name) && name !== serverName ? [name as ServerName] : []))
    return [...new Set(valid)]
  }

  /** Stores a member event of ours in a room that is not here. */
  async function store(
    room_id: RoomId,
    room_version: string,
    event: StoredEvent,
    more: { readonly stripped: string | undefined; readonly notifies?: boolean },
  ): Promise<void> {
    const standing = await standingOf(sql, room_id, event.pdu.state_key as UserId)
    const known = await outsideRoom(sql, room_id)
    const room = known ?? { room_nid: await nids.next(), room_id, room_version }
    if (!known) await committer.commit(newRoom(room, { creator: '', created_ts: now() }))
    const { stripped } = more
    const outcome = more.notifies ? await outcomeOutside(room, event) : undefined
    const writes = await outsideWrites(engine.deps, room, event, { before: standing?.membership, stripped, outcome })
    // A room that is known from earlier has its copy in memory.
    const isKnown = await engine.tryRun(room_id, 'outside', async (task) => {
      task.write(writes)
      task.write(answered({ event_id: event.pdu.event_id }))
      return true
    })
    if (isKnown) {
      engine.outdated(room_id)
      return
    }
    await committer.commit({ ...writes, ...answered({ event_id: event.pdu.event_id }) })
  }

  /** By the rules of the user who is invited: nobody else here has to do with the room. */
  async function outcomeOutside({ room_nid, room_id, room_version }: OutsideRoom, { pdu }: StoredEvent) {
    const rules = rulesOf(room_version)
    if (!rules) return undefined
    await engine.deps.pushClasses.settled()
    return pushOutcome(engine.deps, emptyRoom(room_nid, room_id, rules), pdu)
  }

  return {
    join: (request, isHere) =>
      queue.run(request.room_id, async () => {
        if (await isHere()) return undefined
        const { room_id, user_id, content } = request
        const servers = await serversFor(request)
        const shaken = await handshake(federation, serverName, now, {
          membership: 'join',
          room_id,
          user_id,
          content,
          servers,
        })
        const { event_id } = shaken.event.pdu
        await storeJoin(deps, room_id, shaken, answered({ event_id }))
        return event_id
      }),
    joinThrough: (request) =>
      queue.run(request.room_id, async () => {
        const { room_id, user_id, content, via } = request
        const wish = { membership: 'join', room_id, user_id, content, servers: via } as const
        const { server, rules, event, answer } = await handshake(federation, serverName, now, wish)
        const join = await joinAsSigned(deps, rules, event, answer.event)
        const room = await outsideRoom(sql, room_id)
        if (!room) throw new MatrixError('M_NOT_FOUND', 'This server does not know the room')
        const gaps = { sql, engine, fetcher: deps.fetcher }
        const receipt = await receiveWithGaps(gaps, { ...room, rules }, { origin: server, event: join }).catch(
          (error: unknown) => {
            if (error instanceof UnfoundedError || error instanceof RemoteError) return undefined
            throw error
          },
        )
        if (receipt?.outcome === 'accepted' || receipt?.outcome === 'known') return join.pdu.event_id
        throw new MatrixError(
          'M_FORBIDDEN',
          receipt && 'reason' in receipt ? receipt.reason : `${server} is ahead of this server`,
        )
      }),
    knock: (request) =>
      queue.run(request.room_id, async () => {
        const { room_id, user_id, content } = request
        const servers = await serversFor(request)
        const { event, rules, answer } = await handshake(federation, serverName, now, {
          membership: 'knock',
          room_id,
          user_id,
          content,
          servers,
        })
        const state = answer.knock_room_state ?? answer.knock_state_events
        await store(room_id, rules.version, event, { stripped: strippedText(state) })
        return event.pdu.event_id
      }),
    invite: (wish) => inviteRemote(deps, wish),
    invited: ({ room_id, room_version }, event, { stripped, unnoticed }) =>
      queue.run(room_id, async () => {
        const standing = await standingOf(sql, room_id, event.pdu.state_key as UserId)
        if (standing?.event_id === event.pdu.event_id || standing?.membership === 'join') return
        await store(room_id, room_version, event, { stripped, notifies: !unnoticed })
      }),
    retracted: ({ room_id, room_version }, event) =>
      queue.run(room_id, async () => {
        const { sender, state_key } = event.pdu
        const standing = await standingOf(sql, room_id, state_key as UserId)
        // On its way it was overtaken by another knock, or invitation.
        if (standing && standing.depth >= event.pdu.depth) return true
        const mayRetract =
          standing?.membership === 'knock' || (standing?.membership === 'invite' && standing.sender === sender)
        if (!mayRetract) return false
        await store(room_id, room_version, event, { stripped: undefined })
        return true
      }),
    leave: (request) =>
      queue.run(request.room_id, async () => {
        const { room_id, user_id, content } = request
        const standing = await standingOf(sql, room_id, user_id)
        if (standing?.membership !== 'invite' && standing?.membership !== 'knock') return undefined
        const room = await outsideRoom(sql, room_id)
        const rules = rulesOf(room?.room_version ?? '')
        if (!room || !rules) return undefined
        const servers = await serversFor(request)
        let event: StoredEvent
        try {
          ;({ event } = await handshake(federation, serverName, now, {
            membership: 'leave',
            room_id,
            user_id,
            content,
            servers,
          }))
        } catch (error) {
          if (!(error instanceof RemoteError) && !(error instanceof MatrixError)) throw error
          // The user is free of it all the same, whoever is there to be told.
          const before = standing.event_id as EventId
          event = buildEvent(
            rules,
            {
              room_id,
              type: 'm.room.member',
              state_key: user_id,
              sender: user_id,
              content: { ...content, membership: 'leave' },
              prev_events: [before],
              auth_events: [before],
              depth: 1,
              origin_server_ts: now(),
            },
            serverName,
            federation.signingKeys[0],
          )
        }
        await store(room_id, rules.version, event, { stripped: undefined })
        return event.pdu.event_id
      }),
  }
}

const strippedEvent = v.object({
  type: v.string(),
  state_key: v.string(),
  sender: v.string(),
  content: v.record(v.string(), v.unknown()),
  origin_server_ts: v.optional(v.number()),
})
const strippedMax = 100
const strippedBytesMax = 256 * 1024

/** JSON of those that are stripped state events; what else was given is left out. */
export function strippedText(events: unknown): string {
  const list = Array.isArray(events) ? events.slice(0, strippedMax) : []
  const kept = list.flatMap((event) => {
    const parsed = v.safeParse(strippedEvent, event)
    return parsed.success ? [parsed.output] : []
  })
  const text = JSON.stringify(kept)
  return Buffer.byteLength(text) <= strippedBytesMax ? text : '[]'
}
