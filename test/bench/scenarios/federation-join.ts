/** A user joins a room of 20,000 members and 30,000 state events that another server holds. */
import { authEventKeys } from '../../../shared/core/auth-selection.ts'
import { rulesOf } from '../../../shared/core/room-versions.ts'
import { buildEvent, wireFromParts } from '../../../shared/matrix/event-format.ts'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { type FederationPeer, federationPeer } from '../../support/federation-peer.ts'
import { percentile } from '../measure.ts'
import { check, measured, pause, registerMany, type Scenario, send } from '../scenario.ts'

const members = 20_000
const others = 10_000
const version = '11'
/** The server is asked something small this often meanwhile: how long that takes tells how long its event loop was held. */
const askEveryMs = 20

interface HeldRoom {
  readonly room_id: RoomId
  readonly last: EventId
  readonly depth: number
  /** create, power levels and join rules. */
  readonly auth: readonly EventId[]
  /** JSON of all state events, by commas. */
  readonly state: string
}

export const federationJoin: Scenario = async (bench) => {
  if (!bench.authority) throw new Error('no other server takes part')
  const peer = await federationPeer(bench.authority)
  peer.on('/_matrix/federation/v1/send/', () => ({ body: { pdus: {} } }))
  try {
    const [user, bystander] = await registerMany(bench, 'joiner', 2)
    if (!user || !bystander) throw new Error('no user')
    const room = heldRoom(peer)
    serve(peer, room)
    const asked: number[] = []
    let joined = false
    const asking = (async () => {
      while (!joined) {
        const askedAt = performance.now()
        await bench.http.json('GET', '/_matrix/client/v3/account/whoami', bystander.token)
        asked.push(performance.now() - askedAt)
        await pause(askEveryMs)
      }
    })()
    const row = await measured(
      bench,
      `join to a room of ${members} members, ${members + others} state events`,
      async () => {
        const startedAt = performance.now()
        const path = `/_matrix/client/v3/join/${encodeURIComponent(room.room_id)}?server_name=${encodeURIComponent(peer.server_name)}`
        await bench.http.json('POST', path, user.token, {})
        await send(bench, user, room.room_id, 'sent at once')
        const elapsedMs = performance.now() - startedAt
        return { latenciesMs: [elapsedMs], elapsedMs }
      },
    )
    joined = true
    await asking
    const [stored] = await bench.sql<{ count: number }[]>`
      select count(*)::bigint as count from memberships m join rooms r using (room_nid)
      where r.room_id = ${room.room_id} and m.membership = 'join'`
    check(stored?.count === members + 1, `${stored?.count} members are known`)
    const note = `another's request meanwhile: p50 ${percentile(asked, 50).toFixed(1)} ms, p99 ${percentile(asked, 99).toFixed(1)} ms, most ${Math.max(...asked).toFixed(0)} ms`
    return [{ ...row, note }]
  } finally {
    await peer.close()
  }
}

function heldRoom(peer: FederationPeer): HeldRoom {
  const rules = rulesOf(version)
  if (!rules) throw new Error('no such version')
  const creator = `@creator:${peer.server_name}` as UserId
  const room_id = `!large${Date.now()}:${peer.server_name}` as RoomId
  const auth = new Map<string, EventId>()
  const state: string[] = []
  let last: EventId | undefined
  let depth = 0
  const add = (type: string, state_key: string, content: JsonObject, sender = creator) => {
    const {
      pdu,
      envelope,
      content: text,
    } = buildEvent(
      rules,
      {
        room_id,
        type,
        state_key,
        sender,
        content,
        prev_events: last === undefined ? [] : [last],
        auth_events: authEventKeys(rules, { type, state_key, sender, content }).flatMap(
          ([authType, authKey]) => auth.get(`${authType}\0${authKey}`) ?? [],
        ),
        depth: ++depth,
        origin_server_ts: Date.now(),
      },
      peer.server_name,
      peer.key,
    )
    last = pdu.event_id
    auth.set(`${type}\0${state_key}`, pdu.event_id)
    state.push(wireFromParts(envelope, text))
  }
  add('m.room.create', '', { room_version: version })
  add('m.room.member', creator, { membership: 'join' })
  add('m.room.power_levels', '', { users: { [creator]: 100 } })
  add('m.room.join_rules', '', { join_rule: 'public' })
  for (let i = 1; i < members; i++) {
    const member = `@member${i}:${peer.server_name}` as UserId
    add('m.room.member', member, { membership: 'join', displayname: `Member ${i}` }, member)
  }
  for (let i = 0; i < others; i++) add('org.example.note', `${i}`, { body: `note ${i}` })
  if (last === undefined) throw new Error('no events')
  const of = (type: string) => auth.get(`${type}\0`) as EventId
  return {
    room_id,
    last,
    depth,
    auth: [of('m.room.create'), of('m.room.power_levels'), of('m.room.join_rules')],
    state: state.join(','),
  }
}

function serve(peer: FederationPeer, { room_id, last, depth, auth, state }: HeldRoom): void {
  peer.on(`/_matrix/federation/v1/make_join/${encodeURIComponent(room_id)}`, () => ({
    body: {
      room_version: version,
      event: { content: { membership: 'join' }, depth: depth + 1, prev_events: [last], auth_events: [...auth] },
    },
  }))
  peer.on(`/_matrix/federation/v2/send_join/${encodeURIComponent(room_id)}`, () => ({
    body: `{"origin":"${peer.server_name}","members_omitted":false,"state":[${state}],"auth_chain":[]}`,
  }))
}
