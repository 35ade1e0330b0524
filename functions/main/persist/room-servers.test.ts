import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { shardOf } from '../../../shared/commands/shards.ts'
import { type TestDatabase, testDatabase } from '../../../test/support/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())
beforeEach(async () => {
  await database.sql`delete from memberships`
  await database.sql`delete from room_servers`
})

async function set(position: number, ...members: readonly [user_id: string, membership: string][]): Promise<void> {
  const rows = members.map(([user_id, membership]) => ({
    ...{ user_id, membership, position, room_nid: 1, event_nid: position, sender: user_id },
    local: user_id.endsWith(':hs1'),
  }))
  await database.sql`insert into memberships ${database.sql(rows)}
    on conflict (user_id, room_nid) do update set membership = excluded.membership, position = excluded.position`
}
async function servers() {
  const rows = await database.sql<{ server_name: string; since: number; until: number | null; joined: number }[]>`
    select server_name, since, until, joined from room_servers order by server_name, since`
  return rows.map(({ server_name, since, until, joined }) => [server_name, since, until, joined])
}

describe('which servers are in a room', () => {
  test('from the first joined member up to the last, both events included', async () => {
    await set(1, ['@a:hs1', 'join'])
    await set(2, ['@b:two', 'join'], ['@c:two', 'join'], ['@d:three', 'invite'])
    await set(3, ['@d:three', 'join'])
    await set(4, ['@b:two', 'leave'])
    expect(await servers()).toEqual([
      ['three', 3, null, 1],
      ['two', 2, null, 1],
    ])
    await set(5, ['@c:two', 'ban'])
    await set(6, ['@b:two', 'join'])
    expect(await servers()).toEqual([
      ['three', 3, null, 1],
      ['two', 2, 5, 0],
      ['two', 6, null, 1],
    ])
  })

  test('who is exchanged for another of the same server makes no gap', async () => {
    await set(1, ['@b:two', 'join'], ['@c:two', 'invite'])
    await set(2, ['@b:two', 'leave'], ['@c:two', 'join'])
    await set(3, ['@c:two', 'join'])
    expect(await servers()).toEqual([['two', 1, null, 1]])
  })

  test('a member that state resolution takes away counts no more', async () => {
    await set(1, ['@b:two', 'join'])
    await database.sql`delete from memberships where user_id = '@b:two'`
    expect((await servers()).map(([server, since, , joined]) => [server, since, joined])).toEqual([['two', 1, 0]])
  })

  test('what is no server name is none', async () => {
    await set(1, ['@b:a\\x', 'join'], ['@b:"quoted"', 'join'], ['@b:[::1]:80', 'join'])
    expect(await servers()).toEqual([['[::1]:80', 1, null, 1]])
  })

  test('functions and database agree on the shard of a name', async () => {
    for (const name of ['matrix.org', 'hs2:8448', 'ünï.example']) {
      const [row] = await database.sql<{ shard: number }[]>`select shard_of(${name}) as shard`
      expect(row?.shard).toBe(shardOf(name))
    }
  })
})
