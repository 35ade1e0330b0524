/** Mains as processes: killed, frozen, ended in good order and added while commands go on. */
import * as v from 'valibot'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { RoleProcess } from '../../infra/dev/role-process.ts'
import { systemClock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { loadConfig } from '../../shared/config/load.ts'
import { Config } from '../../shared/config/schema.ts'
import { type RoomId, UserId } from '../../shared/matrix/ids.ts'
import { openRedis } from '../../shared/redis/connection.ts'
import { keyspace } from '../../shared/redis/keys.ts'
import { createCommandClient } from '../../shared/replication/command-client.ts'
import { createShardDirectory } from '../../shared/replication/shard-directory.ts'
import { connectForWriting, type MainSql } from '../../shared/storage/sql.ts'
import { redisInstalled } from '../support/redis.ts'
import { type TestRoles, testRoles } from '../support/roles.ts'

/** From the fault to the next acknowledged write. */
const backWithinMs = 5_000
const roomCount = 24

let roles: TestRoles
let sql: MainSql
let main: MainClient
const users: UserId[] = []
const rooms: RoomId[] = []
const undo: (() => Promise<void> | void)[] = []

beforeAll(async () => {
  if (!redisInstalled) return
  roles = await testRoles({ handlers: 0, mains: 2, edge: false })
  sql = connectForWriting({ url: roles.databaseUrl, connections: 2, applicationName: 'test' })
  const { config } = await loadConfig({ paths: [roles.configPath], env: {} })
  const { secret } = v.parse(Config.entries.commands, config.commands)
  const log = { warn() {} }
  const redis = openRedis({ url: roles.redisUrl, log })
  const keys = keyspace(config.redis.prefix)
  const directory = createShardDirectory({ redis, keys, sql, clock: systemClock, log })
  undo.push(
    () => directory.close(),
    () => redis.close(),
    () => sql.end(),
  )
  main = createCommandClient({ directory, secret: secret ?? '', clock: systemClock, log })
  await shared(2)
  for (let i = 0; i < roomCount; i++) {
    const user_id = v.parse(UserId, `@user${i}:test.local`)
    await main.register({ user_id, kind: 'user', admin: false })
    users.push(user_id)
    rooms.push((await main.createRoom({ user_id })).room_id)
  }
}, 60_000)
afterAll(async () => {
  for (const step of undo) await step()
  await roles?.close()
})

/** Mains that own shards, by how many, most first. */
async function shares(): Promise<{ readonly id: string; readonly shards: number }[]> {
  return sql<{ id: string; shards: number }[]>`
    select owner as id, count(*)::integer as shards from shards where owner in (select id from mains)
    group by owner order by 2 desc`
}
async function shared(mains: number): Promise<void> {
  await vi.waitFor(
    async () => {
      const found = await shares()
      expect(found).toHaveLength(mains)
      expect(found.reduce((sum, one) => sum + one.shards, 0)).toBe(64)
      for (const { shards } of found) expect(shards).toBeLessThanOrEqual(Math.ceil(64 / mains))
    },
    { timeout: 15_000, interval: 50 },
  )
}

interface Load {
  /** Names of what was acknowledged, by room. */
  readonly acknowledged: Map<RoomId, string[]>
  readonly failed: unknown[]
  /** The longest that a command took, in ms. */
  readonly slowestMs: number
  /** Resolves at the next acknowledgement in each room. */
  next(): Promise<void>
  end(): Promise<void>
}

/** One sender a room, each as fast as it is answered. */
function startLoad(label: string): Load {
  const acknowledged = new Map<RoomId, string[]>(rooms.map((room) => [room, []]))
  const failed: unknown[] = []
  let ended = false
  let slowestMs = 0
  const waiting = new Map<RoomId, () => void>()
  const senders = rooms.map(async (room_id, i) => {
    const user_id = users[i]
    if (!user_id) throw new Error('a room without its user')
    for (let n = 0; !ended; n++) {
      const body = `${label} ${n}`
      const at = performance.now()
      try {
        await main.sendEvent({
          room_id,
          user_id,
          txn_id: body,
          type: 'm.room.message',
          content: { msgtype: 'm.text', body },
        })
        acknowledged.get(room_id)?.push(body)
        waiting.get(room_id)?.()
      } catch (error) {
        failed.push(error)
      }
      slowestMs = Math.max(slowestMs, performance.now() - at)
    }
  })
  return {
    acknowledged,
    failed,
    get slowestMs() {
      return slowestMs
    },
    async next() {
      await Promise.all(rooms.map((room) => new Promise<void>((resolve) => waiting.set(room, resolve))))
    },
    async end() {
      ended = true
      await Promise.all(senders)
    },
  }
}

/** Everything that was acknowledged is there once, in the order of its room, and positions have no gaps. */
async function checkStored(load: Load): Promise<void> {
  expect(load.failed).toEqual([])
  for (const [room_id, sent] of load.acknowledged) {
    const stored = await sql<{ body: string }[]>`
      select content::json ->> 'body' as body from events join rooms using (room_nid)
      where room_id = ${room_id} and type = 'm.room.message' and content like ${`%"${sent[0]?.split(' ')[0]} %`} order by position`
    expect(stored.map((row) => row.body)).toEqual(sent)
  }
  const [line] = await sql<{ events: number; last: number; head: number }[]>`
    select count(*)::integer as events, max(e.position) as last, (select position from streams where name = 'events') as head
    from events e where e.position is not null`
  expect(line?.events).toBe(line?.last)
  expect(line?.last).toBe(line?.head)
}

function processes(): RoleProcess[] {
  return roles.of('main').filter((one) => one.running)
}

describe.runIf(redisInstalled)('mains as processes', { timeout: 60_000 }, () => {
  test('one is killed: the other has its shards and writes within five seconds; nothing is lost or doubled', async () => {
    const load = startLoad('kill')
    await load.next()
    const [victim] = processes()
    await victim?.kill()
    const at = performance.now()
    await load.next()
    expect(performance.now() - at).toBeLessThan(backWithinMs)
    await load.end()
    await checkStored(load)
    await victim?.start()
    await shared(2)
  })

  test('one is frozen: the other writes within five seconds; woken, it ends with the reason and has written nothing', async () => {
    const load = startLoad('freeze')
    await load.next()
    const [victim] = processes()
    victim?.signal('SIGSTOP')
    const at = performance.now()
    await load.next()
    expect(performance.now() - at).toBeLessThan(backWithinMs)
    victim?.signal('SIGCONT')
    expect(await victim?.ended).toBe(1)
    await load.next()
    await load.end()
    await checkStored(load)
    await victim?.start()
    await shared(2)
  })

  test('a third joins and gets its share, two are replaced in turn: no command fails', async () => {
    const load = startLoad('roll')
    await load.next()
    const third = await roles.add('main')
    await shared(3)
    await load.next()
    for (const one of processes().slice(0, 2)) {
      const at = performance.now()
      expect(await one.stop()).toBe(0)
      expect(performance.now() - at).toBeLessThan(8_000)
      await load.next()
      await one.start()
      await shared(3)
    }
    await third.stop()
    await shared(2)
    expect(load.slowestMs).toBeLessThan(backWithinMs)
    await load.end()
    await checkStored(load)
  })

  test('work across rooms goes to who owns them: profiles, upgrades, deactivation', async () => {
    const user_id = users[0]!
    await Promise.all(
      rooms.slice(1).map(async (room_id, i) => {
        await main.changeMembership({ room_id, user_id: users[i + 1]!, target: user_id, action: 'invite' })
        await main.changeMembership({ room_id, user_id, target: user_id, action: 'join' })
      }),
    )
    await main.setProfileField({ user_id, field: 'displayname', value: '"Zero"' })
    const named = await sql`
      select from memberships where user_id = ${user_id} and membership = 'join' and display_name = 'Zero'`
    expect(named).toHaveLength(roomCount)
    await main.setTag({ user_id, room_id: rooms[1]!, tag: 'u.work', content: '{}' })
    const { replacement_room } = await main.upgradeRoom({ room_id: rooms[1]!, user_id: users[1]!, new_version: '11' })
    await main.changeMembership({ room_id: replacement_room, user_id: users[1]!, target: user_id, action: 'invite' })
    await main.changeMembership({ room_id: replacement_room, user_id, target: user_id, action: 'join' })
    const tags = await sql`
      select from account_data join rooms using (room_nid)
      where user_id = ${user_id} and room_id = ${replacement_room} and type = 'm.tag'`
    expect(tags).toHaveLength(1)

    // Main dies in the middle: whoever comes to own the user goes on.
    const leaving = main.deactivateAccount({ user_id, erase: false })
    await vi.waitFor(async () => expect(await sql`select from departures where user_id = ${user_id}`).toHaveLength(1), {
      timeout: 5_000,
      interval: 1,
    })
    for (const one of processes()) one.signal('SIGKILL')
    await Promise.all(processes().map((one) => one.ended))
    await Promise.all(roles.of('main').map((one) => one.start()))
    await leaving
    await vi.waitFor(
      async () => {
        const left = await sql`
          select from memberships where user_id = ${user_id} and membership in ('join', 'invite', 'knock')`
        expect(left).toHaveLength(0)
        expect(await sql`select from departures`).toHaveLength(0)
      },
      { timeout: 15_000, interval: 100 },
    )
  })
})
