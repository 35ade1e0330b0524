/** Rooms that go from main to main and back behave as on one: what a main remembers of them from before is not used. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { createNids } from '../../functions/main/persist/nids.ts'
import { createAuthChains } from '../../functions/main/rooms/auth-chains.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import type { DeviceId, EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import { type CommandMains, commandMains, type RunningMain } from '../support/command-mains.ts'
import { seeded } from '../support/random.ts'

let mains: CommandMains
let client: MainClient
beforeAll(async () => {
  mains = await commandMains()
  client = mains.client().main
})
afterAll(() => mains.close())

const device_id = 'DEVICE' as DeviceId
const seed = 20_263
const rounds = 6
const stepsPerRound = 40

/** nids of what an event's auth chain reaches, itself included, by walking. */
async function walkedChain(event_nid: number): Promise<number[]> {
  const rows = await mains.database.sql<{ event_nid: number }[]>`
    with recursive chain (event_nid, envelope) as (
      select event_nid, envelope from events where event_nid = ${event_nid}
      union
      select e.event_nid, e.envelope from chain
      cross join lateral json_array_elements_text(chain.envelope::json -> 'auth_events') as named(event_id)
      join events e on e.event_id = named.event_id
    ) select event_nid from chain`
  return rows.map((row) => row.event_nid).sort((x, y) => x - y)
}

test(`seed ${seed}: sends, state, members, repeated transactions over ${rounds} moves`, {
  timeout: 120_000,
  // What goes wrong one time in ten here is lost in a room for good.
  retry: 0,
}, async () => {
  const { sql } = mains.database
  const random = seeded(seed)
  const users: UserId[] = []
  for (const name of ['ann', 'ben', 'cat', 'dan']) users.push(await mains.user(name))
  const [creator, ...others] = users as [UserId, ...UserId[]]
  const running: RunningMain[] = [await mains.start()]
  await mains.settled(...running)

  const rooms: RoomId[] = []
  const sent = new Map<RoomId, EventId[]>()
  const topics = new Map<RoomId, string>()
  const memberships = new Map<string, string>()
  const answers = new Map<string, EventId>()
  for (let i = 0; i < 6; i++) {
    const { room_id } = await client.createRoom({
      user_id: creator,
      preset: 'public_chat',
      room_version: random.pick(['10', '11', '12']),
    })
    rooms.push(room_id)
    sent.set(room_id, [])
    for (const user_id of others) {
      await client.changeMembership({ room_id, user_id, target: user_id, action: 'join' })
      memberships.set(`${room_id} ${user_id}`, 'join')
    }
  }

  async function step(n: number): Promise<void> {
    const room_id = random.pick(rooms)
    const user_id = random.pick(others)
    const joined = memberships.get(`${room_id} ${user_id}`) === 'join'
    switch (random.pick(['send', 'send', 'repeat', 'topic', 'member', 'name'])) {
      case 'send': {
        const txn_id = `t${n}`
        const content = { msgtype: 'm.text', body: `${n}` }
        const { event_id } = await client.sendEvent({
          room_id,
          user_id: creator,
          device_id,
          txn_id,
          type: 'm.room.message',
          content,
        })
        sent.get(room_id)?.push(event_id)
        answers.set(`${room_id} ${txn_id}`, event_id)
        return
      }
      case 'repeat': {
        const known = [...answers]
        if (known.length === 0) return
        const [key, event_id] = random.pick(known)
        const [room, txn_id] = key.split(' ') as [RoomId, string]
        const again = await client.sendEvent({
          room_id: room,
          user_id: creator,
          device_id,
          txn_id,
          type: 'm.room.message',
          content: { msgtype: 'm.text', body: 'said again' },
        })
        expect(again.event_id).toBe(event_id)
        return
      }
      case 'topic': {
        const topic = `topic ${n}`
        await client.sendEvent({ room_id, user_id: creator, type: 'm.room.topic', state_key: '', content: { topic } })
        topics.set(room_id, topic)
        return
      }
      case 'member': {
        const action = joined ? 'leave' : 'join'
        await client.changeMembership({ room_id, user_id, target: user_id, action })
        memberships.set(`${room_id} ${user_id}`, action)
        return
      }
      default:
        await client.setProfileField({ user_id, field: 'displayname', value: JSON.stringify(`name ${n}`) })
    }
  }

  let n = 0
  for (let round = 0; round < rounds; round++) {
    // A move in the middle of the steps: some commands meet it.
    const lanes = [0, 1, 2].map(async () => {
      for (let i = 0; i < stepsPerRound / 3; i++) await step(n++)
    })
    if (running.length < 3 && (running.length === 1 || round % 2 === 0)) running.push(await mains.start())
    else await running.splice(round % running.length, 1)[0]?.stop()
    await Promise.all(lanes)
    await mains.settled(...running)
  }

  for (const room_id of rooms) {
    const stored = await sql<{ event_id: EventId }[]>`
      select event_id from events join rooms using (room_nid)
      where room_id = ${room_id} and type = 'm.room.message' order by position`
    expect(stored.map((row) => row.event_id).sort()).toEqual(sent.get(room_id)?.sort())
    const [topic] = await sql<{ topic: string | null }[]>`
      select topic from room_summaries join rooms using (room_nid) where room_id = ${room_id}`
    expect(topic?.topic ?? undefined).toBe(topics.get(room_id))
    for (const user_id of others) {
      const [member] = await sql<{ membership: string }[]>`
        select membership from memberships join rooms using (room_nid)
        where room_id = ${room_id} and user_id = ${user_id}`
      expect(member?.membership).toBe(memberships.get(`${room_id} ${user_id}`))
    }
    // Every event names one before it: nobody worked on an old copy of the room.
    const forks = await sql`
      select e.event_id from events e join rooms r using (room_nid)
      cross join lateral json_array_elements_text(e.envelope::json -> 'prev_events') as named(event_id)
      where r.room_id = ${room_id} group by 1 having count(*) > 1`
    expect(forks).toEqual([])
  }

  const cold = createAuthChains({ sql, nids: createNids(sql) })
  const states = await sql<{ event_nid: number; room_id: RoomId }[]>`
    select e.event_nid, r.room_id from events e join rooms r using (room_nid)
    where e.state_key is not null and r.room_version <> '12'`
  for (const { event_nid, room_id } of states.filter((_, i) => i % 5 === 0)) {
    const [create] = await sql<{ event_nid: number }[]>`
      select event_nid from events join rooms using (room_nid) where room_id = ${room_id} and type = 'm.room.create'`
    const expected = (await walkedChain(event_nid)).filter((nid) => nid !== create?.event_nid)
    const found = [...(await cold.difference(room_id, [[event_nid], [create!.event_nid]]))].sort((x, y) => x - y)
    expect(found).toEqual(expected)
  }
  const [line] = await sql<{ rows: number; head: number }[]>`
    select (select count(*)::integer from events where position is not null) as rows, position as head
    from streams where name = 'events'`
  expect(line?.rows).toBe(line?.head)
  expect(running.map((main) => main.failure)).toEqual(running.map(() => undefined))
})

test('push rules that were changed through one main count for a message that comes through another', async () => {
  const { sql } = mains.database
  const [ann, ben] = [await mains.user('push1'), await mains.user('push2')]
  const rooms = await Promise.all(
    Array.from({ length: 6 }, () => client.createRoom({ user_id: ann, preset: 'public_chat' })),
  )
  for (const { room_id } of rooms) {
    await client.changeMembership({ room_id, user_id: ben, target: ben, action: 'join' })
  }
  await client.putPushRule({
    user_id: ben,
    kind: 'override',
    rule_id: 'quiet',
    conditions: [],
    actions: [],
  })
  for (const { room_id } of rooms) {
    const { event_id } = await client.sendEvent({
      room_id,
      user_id: ann,
      type: 'm.room.message',
      content: { msgtype: 'm.text', body: 'psst' },
    })
    await vi.waitFor(async () => {
      const [outcome] = await sql<{ push: number; deviation: number | null }[]>`
        select e.push, (select d.push from push_deviations d join push_rules r on r.class_id = d.class_id
          where r.user_id = ${ben} and d.room_nid = e.room_nid and d.position = e.position) as deviation
        from events e where e.event_id = ${event_id}`
      expect((outcome?.deviation ?? outcome?.push ?? 0) & 1).toBe(0)
    })
  }
})
