/** A server that answers badly what it is asked about its own events, and one that rewrites history: whatever it gives, an event
 *  that builds on nothing is given up, the room stays as it was, and other rooms wait for nobody. */
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { StoredEvent } from '../../shared/matrix/event-format.ts'
import { hashAndSignEvent } from '../../shared/matrix/event-signing.ts'
import type { EventId } from '../../shared/matrix/ids.ts'
import type { JsonObject, JsonValue } from '../../shared/matrix/json-value.ts'
import {
  type FederationPeer,
  federationPeer,
  type PeerAnswer,
  type PeerRequest,
  type TestAuthority,
  testAuthority,
} from '../support/federation-peer.ts'
import { type FederationServer, federationServer } from '../support/federation-server.ts'
import { hostileCases } from '../support/hostile-cases.ts'
import { type PeerRoom, peerRoom } from '../support/peer-room.ts'

let authority: TestAuthority
let server: FederationServer
let peer: FederationPeer
let other: FederationPeer
const cases = hostileCases(() => server.main.database.sql)
beforeAll(async () => {
  authority = testAuthority()
  ;[peer, other] = await Promise.all([federationPeer(authority), federationPeer(authority)])
  server = await federationServer({ authority })
})
afterAll(async () => {
  console.log(cases.report())
  await server?.close()
  await Promise.all([peer?.close(), other?.close()])
  authority?.close()
})

const missing = '/_matrix/federation/v1/get_missing_events/'
const stateIds = '/_matrix/federation/v1/state_ids/'
const state = '/_matrix/federation/v1/state/'
const event = '/_matrix/federation/v1/event/'
const eventAuth = '/_matrix/federation/v1/event_auth/'
type Answer = (request: PeerRequest) => PeerAnswer | Promise<PeerAnswer>
beforeEach(() => {
  peer.on('/_matrix/federation/', () => ({ status: 404, body: { errcode: 'M_NOT_FOUND', error: 'no' } }))
  // So that it goes on to ask for the state there.
  peer.on(missing, () => ({ body: { events: [] } }))
  peer.requests.length = 0
})

const sql = () => server.main.database.sql
const processed = () =>
  expect.poll(async () => (await sql()`select 1 from staged_pdus`).length, { timeout: 20_000 }).toBe(0)
const flagsOf = async ({ pdu }: StoredEvent) => {
  const [row] = await sql()<{ flags: number; position: number | null }[]>`
    select flags, position from events where event_id = ${pdu.event_id}`
  return row
}
const message = (room: PeerRoom, body: string, more: object = {}) =>
  room.makeAside({ type: 'm.room.message', content: { body }, ...more })
const nowhere = (name: string) => `$${name}${'x'.repeat(20)}` as EventId

/** An event whose previous event the peer has to give, and what it gives instead. */
interface Gap {
  readonly room: PeerRoom
  readonly lost: StoredEvent
  readonly last: StoredEvent
}

/** `path`: what it is asked for, in the end. The state is asked for before what it gave. */
async function gap(version = '11', path: string = missing): Promise<Gap> {
  const room = await peerRoom(server, peer, version)
  const isDeep = path === stateIds || path === event
  const deep = message(room, 'deep')
  const lost = message(room, 'lost', isDeep ? { prev_events: [deep.pdu.event_id], depth: deep.pdu.depth + 1 } : {})
  if (path === eventAuth) return { room, lost, last: message(room, 'last', { auth_events: [nowhere('auth')] }) }
  if (isDeep) {
    peer.on(missing, ({ body }) => {
      const asksForLast = !((body?.latest_events ?? []) as EventId[]).includes(lost.pdu.event_id)
      return { body: { events: asksForLast ? [room.wire(lost)] : [] } }
    })
  }
  if (path === event) {
    const rows = await sql()<{ event_id: EventId }[]>`
      select event_id from current_state c join rooms r using (room_nid) join events e using (event_nid)
      where r.room_id = ${room.room_id}`
    peer.on(stateIds, () => ({ body: { pdu_ids: rows.map((row) => row.event_id), auth_chain_ids: [] } }))
  }
  const last = message(room, 'last', { prev_events: [lost.pdu.event_id], depth: lost.pdu.depth + 1 })
  return { room, lost, last }
}

type Bad = (gap: Gap) => Answer
const always =
  (answer: PeerAnswer): Bad =>
  () =>
  () =>
    answer
const events =
  (of: (gap: Gap) => readonly JsonValue[]): Bad =>
  (found) =>
  () => ({ body: { events: [...of(found)] } })
const bomb = gzipSync(Buffer.alloc(300_000_000, ' '))

describe('what is missing', () => {
  const answers: [string, string, Bad][] = [
    ['is not given', missing, always({ status: 403, body: { errcode: 'M_FORBIDDEN', error: 'no' } })],
    ['is answered by a broken server', missing, always({ status: 500, body: 'x' })],
    ['is no JSON', missing, always({ body: '{"events":[' })],
    ['is a list', missing, always({ body: '[]' })],
    ['is no list', missing, always({ body: { events: { 0: {} } } })],
    ['is no events', missing, events(() => [null, 1, 'x', [], {}])],
    [
      'is a thousand events',
      missing,
      events(({ room }) => Array.from({ length: 1_000 }, () => room.wire(message(room, 'x')))),
    ],
    ['is not signed', missing, events(({ room, lost }) => [{ ...room.wire(lost), signatures: {} }])],
    [
      'is signed by another server',
      missing,
      events(({ room, lost }) => [
        hashAndSignEvent(room.rules, { ...room.wire(lost), signatures: {} }, other.server_name, other.key),
      ]),
    ],
    [
      'is in another room',
      missing,
      events(({ room, lost }) => [
        hashAndSignEvent(
          room.rules,
          { ...room.wire(lost), signatures: {}, room_id: '!other:x' },
          peer.server_name,
          peer.key,
        ),
      ]),
    ],
    ['is larger than any answer', missing, always({ body: { events: [], more: 'x'.repeat(6_000_000) } })],
    ['is a compression bomb', missing, always({ headers: { 'content-encoding': 'gzip' }, body: bomb })],
    [
      'is compressed five times',
      missing,
      always({ headers: { 'content-encoding': 'gzip, gzip, gzip, gzip, gzip' }, body: bomb }),
    ],
    ['is nested without end', missing, always({ body: '['.repeat(1_000_000) })],
    [
      'is said to be inside of this network',
      missing,
      always({ status: 302, headers: { location: 'https://127.0.0.2:1/inside' } }),
    ],
    [
      'is said to be elsewhere on the peer',
      missing,
      always({ status: 307, headers: { location: '/_matrix/federation/v1/elsewhere' } }),
    ],
    ['has a state of what are no ids', stateIds, always({ body: { pdu_ids: [1, 'x', null], auth_chain_ids: [] } })],
    ['has a state that is nothing', stateIds, always({ body: {} })],
    ['has an empty state', stateIds, always({ body: { pdu_ids: [], auth_chain_ids: [] } })],
    [
      'has a state of 300,000 ids',
      stateIds,
      always({ body: { pdu_ids: Array.from({ length: 300_000 }, (_, i) => `$${i}`), auth_chain_ids: [] } }),
    ],
    [
      'has a state of 500 events that nobody has',
      stateIds,
      always({ body: { pdu_ids: Array.from({ length: 500 }, (_, i) => nowhere(`s${i}`)), auth_chain_ids: [] } }),
    ],
    [
      'is none of two',
      event,
      ({ room, lost, last }) =>
        () => ({ body: { pdus: [room.wire(lost), room.wire(last)] } }),
    ],
    ['is nothing', event, always({ body: { pdus: [] } })],
    ['rests on a chain without an end', eventAuth, always({ body: { auth_chain: 'x' } })],
  ]
  test.each(answers)('%s', async (name, path, bad) => {
    const found = await gap('11', path)
    let asked = 0
    const answer = bad(found)
    peer.on(path, (request) => {
      asked++
      return answer(request)
    })
    const { seenChanged, result } = await cases.run(`missing: ${name}`, async () => {
      const sent = await found.room.send([found.room.wire(found.last)])
      await processed()
      return sent
    })
    expect(asked).toBeGreaterThan(0)
    expect(result).toMatchObject({ status: 200 })
    expect(seenChanged).toBe(false)
    expect(await flagsOf(found.last)).toBeUndefined()
    expect(await flagsOf(found.lost)).toBeUndefined()
    expect(peer.requests.length).toBeLessThan(700)
    expect(peer.requests.map(({ uri }) => uri)).not.toContain('/_matrix/federation/v1/elsewhere')
    // The room goes on.
    await found.room.say('after that')
  })

  test('is another event, which is taken as what it is', async () => {
    const { room, lost, last } = await gap()
    const another = message(room, 'another')
    peer.on(missing, () => ({ body: { events: [room.wire(another)] } }))
    await cases.run('missing: is another event', async () => {
      await room.send([room.wire(last)])
      await processed()
    })
    expect(await flagsOf(another)).toMatchObject({ flags: 0 })
    expect(await flagsOf(last)).toBeUndefined()
    expect(await flagsOf(lost)).toBeUndefined()
  })

  test('comes after something else that is missing, on and on', async () => {
    const { room, last } = await gap()
    let depth = 1_000_000
    peer.on(missing, () => {
      // Each is before the one before it, and none is ever the last.
      const before = message(room, `before ${depth}`, { prev_events: [nowhere(`p${depth}`)], depth: --depth })
      return { body: { events: [room.wire(before)] } }
    })
    const { seenChanged } = await cases.run('missing: on and on', async () => {
      await room.send([room.wire(last)])
      await processed()
    })
    expect(seenChanged).toBe(false)
    expect(peer.requests.filter(({ uri }) => uri.startsWith(missing)).length).toBeLessThan(50)
  })

  test('leads back to where it began', async () => {
    const { room } = await gap('1')
    const base = room.wire(message(room, 'base'))
    const named = (name: string) => `$${name}:${peer.server_name}`
    const ring = (name: string, before: string) =>
      hashAndSignEvent(
        room.rules,
        { ...base, signatures: {}, event_id: named(name), prev_events: [[named(before), { sha256: 'x' }]] },
        peer.server_name,
        peer.key,
      )
    const round = [ring('a', 'c'), ring('b', 'a'), ring('c', 'b')]
    peer.on(missing, () => ({ body: { events: round } }))
    const { seenChanged } = await cases.run('missing: a cycle of previous events', async () => {
      await room.send([round[2] as JsonObject])
      await processed()
    })
    expect(seenChanged).toBe(false)
  })

  test('rests on itself', async () => {
    const { room } = await gap('1')
    const base = room.wire(message(room, 'base'))
    const named = (name: string) => `$${name}:${peer.server_name}`
    const ring = (name: string, auth: string) =>
      hashAndSignEvent(
        room.rules,
        {
          ...base,
          signatures: {},
          type: 'm.room.power_levels',
          state_key: '',
          content: {},
          event_id: named(name),
          auth_events: [[named(auth), { sha256: 'x' }]],
        },
        peer.server_name,
        peer.key,
      )
    const round = [ring('self', 'self'), ring('x', 'y'), ring('y', 'x')]
    peer.on(eventAuth, () => ({ body: { auth_chain: round } }))
    peer.on(event, () => ({ body: { pdus: [round[1] as JsonObject] } }))
    const { seenChanged } = await cases.run('missing: a cycle of auth events', async () => {
      await room.send(round)
      await processed()
    })
    expect(seenChanged).toBe(false)
  })

  test('rests on a chain of two thousand events', async () => {
    const room = await peerRoom(server, peer)
    const chain: JsonObject[] = []
    let before: EventId | undefined
    for (let i = 0; i < 2_000; i++) {
      const auth_events = before ? [before] : []
      const one = room.makeAside({
        type: 'm.room.power_levels',
        state_key: '',
        content: { users: {}, i },
        auth_events,
        ts: i,
      })
      before = one.pdu.event_id
      chain.push(room.wire(one))
    }
    const last = message(room, 'last', { auth_events: [before as EventId] })
    peer.on(eventAuth, () => ({ body: { auth_chain: chain } }))
    const { seenChanged } = await cases.run('missing: an auth chain of 2,000 events', async () => {
      await room.send([room.wire(last)])
      await processed()
    })
    expect(seenChanged).toBe(false)
    const stored = await flagsOf(last)
    if (stored) expect(stored).toEqual({ flags: 1, position: null })
  })

  test('is asked for in each of a thousand events, of which none is there', async () => {
    const room = await peerRoom(server, peer)
    const flood = Array.from({ length: 20 }, (_, t) =>
      Array.from({ length: 50 }, (_, i) =>
        room.wire(
          message(room, `${t} ${i}`, { prev_events: Array.from({ length: 20 }, (_, p) => nowhere(`${t}.${i}.${p}.`)) }),
        ),
      ),
    )
    const { seenChanged, rows } = await cases.run('a flood of previous events', async () => {
      for (const pdus of flood) expect((await room.send(pdus)).status).toBe(200)
    })
    expect(seenChanged).toBe(false)
    expect(rows.events ?? 0).toBe(0)
    // Another room of the same peer is not behind all that.
    const elsewhere = await peerRoom(server, peer)
    await elsewhere.say('meanwhile')
    await processed()
  })

  test('is never answered: other rooms go on', async () => {
    const { room, last } = await gap()
    const stuck = Promise.withResolvers<PeerAnswer>()
    peer.on(missing, () => stuck.promise)
    try {
      const elsewhere = await peerRoom(server, peer)
      const { result } = await cases.run('missing: no answer', async () => {
        const { status } = await room.send([room.wire(last)])
        await elsewhere.say('meanwhile')
        return status
      })
      expect(result).toBe(200)
    } finally {
      stuck.resolve({ status: 404, body: { errcode: 'M_NOT_FOUND', error: 'no' } })
    }
    await processed()
  })

  test('is a state that says something else than ours', async () => {
    const { room, lost, last } = await gap()
    // The peer claims that it was always the room's administrator.
    const rows = await sql()<{ event_id: EventId; type: string }[]>`
      select e.event_id, e.type from current_state c join rooms r using (room_nid) join events e using (event_nid)
      where r.room_id = ${room.room_id}`
    const levels = room.makeAside({
      type: 'm.room.power_levels',
      state_key: '',
      content: { users: { [room.bob]: 100 } },
    })
    const claimed = [
      ...rows.filter(({ type }) => type !== 'm.room.power_levels').map(({ event_id }) => event_id),
      levels.pdu.event_id,
    ]
    const given = new Map([lost, levels].map((one) => [one.pdu.event_id as string, room.wire(one)]))
    peer.on(stateIds, () => ({ body: { pdu_ids: claimed, auth_chain_ids: [] } }))
    peer.on(state, () => ({ body: { pdus: [room.wire(levels)], auth_chain: [] } }))
    peer.on(event, ({ uri }) => {
      const wire = given.get(decodeURIComponent(uri.split('/').at(-1) ?? ''))
      return wire ? { body: { pdus: [wire] } } : { status: 404, body: { errcode: 'M_NOT_FOUND', error: 'no' } }
    })
    await cases.run('missing: a state of lies', async () => {
      await room.send([room.wire(last)])
      await processed()
    })
    const [now] = await sql()<{ content: string }[]>`
      select e.content from current_state c join rooms r using (room_nid) join events e using (event_nid)
      where r.room_id = ${room.room_id} and c.type = 'm.room.power_levels'`
    expect(JSON.parse(now?.content ?? '{}')).toMatchObject({ users: { [room.alice]: 100, [room.bob]: 50 } })
  })
})

describe('history that is rewritten', () => {
  const current = async (room: PeerRoom, type: string, state_key = '') => {
    const [row] = await sql()<{ content: string }[]>`
      select e.content from current_state c join rooms r using (room_nid) join events e using (event_nid)
      where r.room_id = ${room.room_id} and c.type = ${type} and c.state_key = ${state_key}`
    return row && (JSON.parse(row.content) as JsonObject)
  }
  const set = (room: PeerRoom, type: string, content: JsonObject) =>
    server.main.commands.sendEvent({
      room_id: room.room_id,
      user_id: room.alice,
      type,
      state_key: '',
      content: content as never,
    })

  test.each(['2', '6', '11', '12'])(
    'v%s: who lost their power does not take it back on a fork from before',
    async (version) => {
      const room = await peerRoom(server, peer, version)
      const [mine, topic] = [
        room.makeAside({
          type: 'm.room.power_levels',
          state_key: '',
          content: { ...(await current(room, 'm.room.power_levels')), ban: 25 },
          ts: 1,
        }),
        room.makeAside({ type: 'm.room.topic', state_key: '', content: { topic: 'mine' }, ts: 1 }),
      ]
      const levels = (await current(room, 'm.room.power_levels')) as JsonObject
      const { [room.bob]: _, ...others } = levels.users as JsonObject
      await set(room, 'm.room.power_levels', { ...levels, users: others })
      await set(room, 'm.room.topic', { topic: 'ours' })
      await cases.run(`v${version} fork: power from before`, () => room.send([room.wire(mine), room.wire(topic)]))
      expect(await current(room, 'm.room.power_levels')).toMatchObject({ users: others })
      expect((await current(room, 'm.room.power_levels'))?.ban).toBe(levels.ban)
      expect(await current(room, 'm.room.topic')).toEqual({ topic: 'ours' })
    },
  )

  test.each(['2', '6', '11', '12'])('v%s: who was banned does not come back on a fork from before', async (version) => {
    const room = await peerRoom(server, peer, version)
    const again = room.makeAside({
      type: 'm.room.member',
      state_key: room.bob,
      content: { membership: 'join', displayname: 'back' },
      ts: 1,
    })
    const open = room.makeAside({
      type: 'm.room.join_rules',
      state_key: '',
      content: { join_rule: 'public', x: 1 },
      ts: 1,
    })
    await server.main.commands.changeMembership({
      room_id: room.room_id,
      user_id: room.alice,
      target: room.bob,
      action: 'ban',
    })
    await cases.run(`v${version} fork: back after a ban`, () => room.send([room.wire(again), room.wire(open)]))
    expect(await current(room, 'm.room.member', room.bob)).toMatchObject({ membership: 'ban' })
    expect(await current(room, 'm.room.join_rules')).not.toHaveProperty('x')
  })

  test('a thousand forks leave few ends', async () => {
    const room = await peerRoom(server, peer)
    const forks = Array.from({ length: 1_000 }, (_, i) => room.wire(message(room, `fork ${i}`, { ts: i + 1 })))
    const { result } = await cases.run('fork: a thousand ends', async () => {
      const statuses: number[] = []
      for (let from = 0; from < forks.length; from += 50)
        statuses.push((await room.send(forks.slice(from, from + 50))).status)
      return statuses
    })
    expect(new Set(result)).toEqual(new Set([200]))
    await set(room, 'm.room.topic', { topic: 'after all' })
    const ends = async () => {
      const [row] = await sql()<{ n: number }[]>`
        select cardinality(forward_extremities) as n from room_heads join rooms using (room_nid) where room_id = ${room.room_id}`
      return row?.n
    }
    // Each of our events takes up some, and so does what is sent for nothing else while they come.
    const before = (await ends()) ?? 0
    console.log(`a thousand forks: ${before} ends after our next event`)
    expect(before).toBeLessThan(1_000)
    for (let i = 0; i < 10; i++) await set(room, 'm.room.topic', { topic: `${i}` })
    expect(await ends()).toBeLessThanOrEqual(Math.max(10, before - 10 * 8))
  })

  test('a depth at its end does not end the room', async () => {
    const room = await peerRoom(server, peer)
    const deepest = room.makeAside({ type: 'm.room.message', content: {}, depth: Number.MAX_SAFE_INTEGER })
    await cases.run('a depth at its end', () => room.send([room.wire(deepest)]))
    await set(room, 'm.room.topic', { topic: 'on' })
    expect(await current(room, 'm.room.topic')).toEqual({ topic: 'on' })
  })
})
