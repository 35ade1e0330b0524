import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { discoveryRoutes } from '../../functions/client/discovery/routes.ts'
import { indexOnce } from '../../functions/main/discovery/indexing.ts'
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type RoomFixture, roomFixture } from '../support/room-fixture.ts'

let database: TestDatabase
let f: RoomFixture
let asker: UserId
let lobby: RoomId

beforeAll(async () => {
  database = await testDatabase({ create: "template template0 locale 'C'" })
  f = await roomFixture(database, discoveryRoutes)
  asker = await account('asker')
  lobby = await f.room(await account('keeper'))
  await f.send(lobby, asker, 'm.room.join_rules', { join_rule: 'public' }, { state_key: '' })
})
afterAll(async () => {
  await f.close()
  await database.drop()
})

async function account(localpart: string, displayname?: string, avatar_url?: string): Promise<UserId> {
  const user = `@${localpart}:example.org` as UserId
  await database.sql`insert into users (user_id, created_ts) values (${user}, 0)`
  await rename(user, displayname, avatar_url)
  return user
}
async function rename(user: UserId, displayname?: string, avatar_url?: string): Promise<void> {
  await f.committer.commit({
    invalidations: [{ cache: 'profile', key: user }],
    also: (tx) => [
      tx`insert into profiles (user_id, display_name, avatar_url)
        values (${user}, ${displayname ?? null}, ${avatar_url ?? null})
        on conflict (user_id) do update set display_name = excluded.display_name, avatar_url = excluded.avatar_url`,
    ],
  })
}
async function publicUser(localpart: string, displayname?: string, avatar_url?: string): Promise<UserId> {
  const user = await account(localpart, displayname, avatar_url)
  await f.member(lobby, user, 'join')
  return user
}
async function search(search_term: string, more: object = {}, user = asker) {
  while (await indexOnce(database.sql));
  return f.call(user, 'v3/user_directory/search', { search_term, ...more })
}
const found = async (term: string, user = asker): Promise<UserId[]> =>
  (await search(term, {}, user)).body.results.map((one: { user_id: UserId }) => one.user_id)

describe('client-server-api POST /user_directory/search', () => {
  test('by the beginning of any word of the display name, and of the localpart, without case and accents', async () => {
    const user = await publicUser('j.smith_77', 'Jöhn Mc Smith', 'mxc://example.org/a')
    for (const term of [
      'john',
      'JÖH',
      'smi',
      'mc joh',
      'j.smith',
      '@j.smith_77:example.org',
      'j.smith_77:exa',
      '@j.',
    ]) {
      expect(await found(term), term).toContain(user)
    }
    for (const term of ['ohn', 'john x', 'smith77', '@smith', '', ' ', '@']) {
      expect(await found(term), term).not.toContain(user)
    }
    expect((await search('john')).body).toEqual({
      results: [{ user_id: user, display_name: 'Jöhn Mc Smith', avatar_url: 'mxc://example.org/a' }],
      limited: false,
    })
  })

  test('who is in no public room is found by those alone who share a room, while they do', async () => {
    const hidden = await account('hidden', 'Quentin')
    const room = await f.room(hidden)
    expect(await found('quentin')).toEqual([])
    await f.member(room, asker, 'join')
    expect(await found('quentin')).toEqual([hidden])
    await f.member(room, asker, 'leave')
    expect(await found('quentin')).toEqual([])
  })

  test('a room that becomes public or world readable shows its members, and hides them again', async () => {
    const member = await account('flip', 'Ulrich')
    const room = await f.room(member)
    expect(await found('ulrich')).toEqual([])
    const state = (type: string, content: { [key: string]: string }) =>
      f.send(room, member, type, content, { state_key: '' })
    await state('m.room.join_rules', { join_rule: 'public' })
    expect(await found('ulrich')).toEqual([member])
    await state('m.room.join_rules', { join_rule: 'invite' })
    expect(await found('ulrich')).toEqual([])
    await state('m.room.history_visibility', { history_visibility: 'world_readable' })
    expect(await found('ulrich')).toEqual([member])
  })

  test('a new name counts and the old one does not; a deactivated account is gone', async () => {
    const user = await publicUser('renamed', 'Victor')
    expect(await found('victor')).toEqual([user])
    await rename(user, 'Wanda')
    expect(await found('victor')).toEqual([])
    expect(await found('wanda')).toEqual([user])
    await database.sql`update users set deactivated = true where user_id = ${user}`
    await rename(user, 'Wanda')
    expect(await found('wanda')).toEqual([])
    expect(await database.sql`select from user_directory_words where user_id = ${user}`).toHaveLength(0)
  })

  test('ranked: the whole name, its beginning, any word; then acquaintances; then who has a profile', async () => {
    const word = await publicUser('r1', 'Big Kim')
    const beginning = await publicUser('r2', 'Kimberly')
    const whole = await publicUser('r3', 'Kim')
    const bare = await publicUser('kimono')
    const friend = await account('r5', 'Kimba')
    const room = await f.room(friend)
    await f.member(room, asker, 'join')
    expect(await found('kim')).toEqual([whole, friend, beginning, bare, word])
  })

  test('limit, and limited', async () => {
    for (let i = 0; i < 12; i++) await publicUser(`many${i}`, 'Many')
    const answer = async (limit?: number) => {
      const { body } = await search('many', limit === undefined ? {} : { limit })
      return [body.results.length, body.limited]
    }
    expect(await answer()).toEqual([10, true])
    expect(await answer(12)).toEqual([12, false])
    expect(await answer(3)).toEqual([3, true])
    expect((await search('many', { limit: -1 })).status).toBe(400)
    expect((await search('many', { limit: 'x' })).status).toBe(400)
  })

  test('members of a large room are found by who is in it', async () => {
    const owner = await account('large-owner')
    const room = await f.room(owner)
    await database.sql`update room_summaries set joined_members = 100000 where room_nid = ${f.roomNid(room)}`
    const user = await account('large-member', 'Xaver')
    await f.member(room, user, 'join')
    await database.sql`update room_summaries set joined_members = 100000 where room_nid = ${f.roomNid(room)}`
    expect(await found('xaver')).toEqual([])
    await f.member(room, asker, 'join')
    await database.sql`update room_summaries set joined_members = 100000 where room_nid = ${f.roomNid(room)}`
    expect(await found('xaver')).toEqual([user])
  })

  test('the directory can be made anew while it is in use', async () => {
    const user = await publicUser('rebuilt', 'Yvonne')
    expect(await found('yvonne')).toEqual([user])
    await database.sql`delete from user_directory_words where user_id = ${user}`
    await database.sql`update index_cursors set backfill = '' where name = 'users'`
    expect(await found('yvonne')).toEqual([user])
    const [cursor] = await database.sql`select backfill from index_cursors where name = 'users'`
    expect(cursor?.backfill).toBeNull()
  })

  test('users of other servers have the name that their member event says', async () => {
    const remote = '@zora:elsewhere.org' as UserId
    await f.member(lobby, remote, 'join')
    await database.sql`update memberships set local = false, display_name = 'Zora Far' where user_id = ${remote}`
    expect(await found('far')).toEqual([remote])
    await f.member(lobby, remote, 'leave')
    expect(await found('zora')).toEqual([])
  })
})
