/** Aliases and the room directory, as matrix-js-sdk knows them. */
import * as sdk from 'matrix-js-sdk'
import { expect, test } from 'vitest'
import { until } from './sdk-client.ts'
import { errcodeOf, joins, roomOf, sdkServer } from './sdk-server.ts'

const server = sdkServer()

test('client-server-api/#room-aliases: made, followed, deleted, and one of them canonical', async () => {
  const [alice, bob] = [await server.person('alice'), await server.person('bob')]
  const { room_id } = await alice.createRoom({ preset: sdk.Preset.PublicChat, room_alias_name: 'square' })
  expect((await bob.getRoomIdForAlias('#square:test.local')).room_id).toBe(room_id)
  await joins(bob, (await bob.joinRoom('#square:test.local')).roomId)
  await alice.createAlias('#plaza:test.local', room_id)
  await alice.createAlias('#forum:test.local', room_id)
  expect(await errcodeOf(bob.createAlias('#plaza:test.local', room_id))).toBe('M_UNKNOWN')
  expect((await bob.getLocalAliases(room_id)).aliases.sort()).toEqual([
    '#forum:test.local',
    '#plaza:test.local',
    '#square:test.local',
  ])
  const canonical = { alias: '#plaza:test.local', alt_aliases: ['#square:test.local', '#forum:test.local'] }
  await alice.sendStateEvent(room_id, sdk.EventType.RoomCanonicalAlias, canonical)
  await until(bob, () => roomOf(bob, room_id).getCanonicalAlias() === '#plaza:test.local', 'the canonical alias')
  expect(roomOf(bob, room_id).name).toBe('#plaza:test.local')
  const wrong = (alias: string) => alice.sendStateEvent(room_id, sdk.EventType.RoomCanonicalAlias, { alias })
  expect(await errcodeOf(wrong('#nowhere:test.local'))).toBe('M_BAD_ALIAS')
  expect(await errcodeOf(bob.deleteAlias('#plaza:test.local'))).toBe('M_FORBIDDEN')
  // A deleted alias is taken out of the canonical ones too.
  await alice.deleteAlias('#plaza:test.local')
  await until(bob, () => roomOf(bob, room_id).getCanonicalAlias() === null, 'no canonical alias')
  expect(roomOf(bob, room_id).getAltAliases().sort()).toEqual(['#forum:test.local', '#square:test.local'])
  expect(await errcodeOf(bob.getRoomIdForAlias('#plaza:test.local'))).toBe('M_NOT_FOUND')
})

test('client-server-api/#published-room-directory: listed, searched, paged, withdrawn', async () => {
  const [alice, bob] = [await server.person('alice'), await server.person('bob')]
  const rooms: string[] = []
  for (let i = 0; i < 5; i++) {
    const { room_id } = await alice.createRoom({
      preset: sdk.Preset.PublicChat,
      visibility: sdk.Visibility.Public,
      name: `Garden ${i}`,
      topic: i === 3 ? 'Quinces' : 'Apples',
      ...(i === 4 ? { creation_content: { type: sdk.RoomType.Space } } : {}),
    })
    rooms.push(room_id)
  }
  for (const room of rooms.slice(0, 2)) await joins(bob, room)
  const listed = async (options: sdk.IRoomDirectoryOptions) =>
    (await bob.publicRooms(options)).chunk.map((room) => room.name).sort()
  const gardens = ['Garden 0', 'Garden 1', 'Garden 2', 'Garden 3', 'Garden 4']
  expect(await listed({})).toEqual(gardens)
  expect(await listed({ filter: { generic_search_term: 'quince' } })).toEqual(['Garden 3'])
  expect(await listed({ filter: { room_types: [sdk.RoomType.Space] } })).toEqual(['Garden 4'])
  expect(await listed({ filter: { room_types: [null] } })).toEqual(gardens.slice(0, 4))

  const paged: sdk.IPublicRoomsChunkRoom[] = []
  let since: string | undefined
  do {
    const page = await bob.publicRooms({ limit: 2, ...(since === undefined ? {} : { since }) })
    expect(page.chunk.length).toBeLessThanOrEqual(2)
    paged.push(...page.chunk)
    since = page.next_batch
  } while (since !== undefined)
  expect(paged.map((room) => room.name).sort()).toEqual(gardens)
  expect(paged.map((room) => room.num_joined_members)).toEqual([2, 2, 1, 1, 1])
  expect(paged[0]).toMatchObject({ world_readable: false, guest_can_join: false, join_rule: 'public' })

  const last = rooms[2] ?? ''
  expect(await errcodeOf(bob.setRoomDirectoryVisibility(last, sdk.Visibility.Private))).toBe('M_FORBIDDEN')
  await alice.setRoomDirectoryVisibility(last, sdk.Visibility.Private)
  expect((await bob.getRoomDirectoryVisibility(last)).visibility).toBe('private')
  expect(await listed({})).not.toContain('Garden 2')
})
