import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { RoomId } from '../../shared/matrix/ids.ts'
import { type ClientServer, clientServer, password, type TestClient } from '../support/client-server.ts'
import { crossSigning, olmDevice } from '../support/olm-keys.ts'
import { seeded } from '../support/random.ts'

let server: ClientServer
let names = 0
beforeAll(async () => {
  server = await clientServer()
})
afterAll(() => server.close())

const person = (name: string) => server.register(`${name}${++names}`)
const newKeys = (client: TestClient) =>
  client.must('POST', 'keys/upload', { device_keys: olmDevice(client).device_keys })
type Action = 'join' | 'leave' | 'invite' | 'kick'
const act = (room_id: RoomId, by: TestClient, action: Action, target = by) =>
  server.main.commands.changeMembership({ room_id, user_id: by.user_id, target: target.user_id, action })
const room = async (creator: TestClient, ...members: TestClient[]) => {
  const { room_id } = await server.main.commands.createRoom({ user_id: creator.user_id, preset: 'public_chat' })
  for (const member of members) await act(room_id, member, 'join')
  return room_id
}
const since = async (client: TestClient): Promise<string> => (await client.sync()).next_batch
/** `[changed, left]` of a sync and of /keys/changes, which have to agree. */
async function lists(client: TestClient, from: string): Promise<[string[], string[]]> {
  const { device_lists = { changed: [], left: [] }, next_batch } = await client.sync({ since: from })
  const asked = await client.must('GET', `keys/changes?from=${from}&to=${next_batch}`)
  const sorted = ({ changed, left }: { changed: string[]; left: string[] }): [string[], string[]] => [
    changed.toSorted(),
    left.toSorted(),
  ]
  expect(sorted(asked)).toEqual(sorted(device_lists))
  return sorted(device_lists)
}

describe.each([
  ['from memory', false],
  ['by a process that was just started', true],
])('client-server-api/#tracking-the-device-list-for-a-user, %s', (_, forgetful) => {
  const told = async (client: TestClient, from: string) => {
    if (forgetful) server.forget()
    return lists(client, from)
  }

  test('whoever comes into a room is new to those in it, and they to them', async () => {
    const [alice, bob, carol] = [await person('alice'), await person('bob'), await person('carol')]
    const id = await room(alice, carol)
    const [froms] = [await Promise.all([alice, bob].map(since))]
    await act(id, bob, 'join')
    expect(await told(alice, froms[0] ?? '')).toEqual([[bob.user_id], []])
    // Their own other devices are to look at themselves too.
    expect(await told(bob, froms[1] ?? '')).toEqual([[alice.user_id, bob.user_id, carol.user_id], []])
  })

  test('who leaves is left, and has left all, unless another room is shared', async () => {
    const [alice, bob, carol] = [await person('alice'), await person('bob'), await person('carol')]
    const id = await room(alice, bob, carol)
    await room(alice, carol)
    const [a, b, c] = [await since(alice), await since(bob), await since(carol)]
    await act(id, alice, 'kick', bob)
    expect(await told(alice, a)).toEqual([[], [bob.user_id]])
    expect(await told(bob, b)).toEqual([[], [alice.user_id, carol.user_id]])
    const again = await since(alice)
    await act(id, carol, 'leave')
    expect(await told(alice, again)).toEqual([[], []])
    expect(await told(carol, c)).toEqual([[], [bob.user_id]])
  })

  test('who left a room after the user did is left too', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const id = await room(bob, alice)
    const from = await since(alice)
    await act(id, alice, 'leave')
    await act(id, bob, 'leave')
    expect(await told(alice, from)).toEqual([[], [bob.user_id]])
  })

  test('who left and came back is to be looked at anew', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const id = await room(alice, bob)
    const from = await since(alice)
    await act(id, bob, 'leave')
    await newKeys(bob)
    await act(id, bob, 'join')
    expect(await told(alice, from)).toEqual([[bob.user_id], []])
  })

  test('an invite, its refusal and a new name tell nothing', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const id = await room(alice)
    const [a, b] = [await since(alice), await since(bob)]
    await act(id, alice, 'invite', bob)
    await act(id, bob, 'leave')
    await server.main.commands.setProfileField({ user_id: alice.user_id, field: 'displayname', value: '"Al"' })
    expect(await told(alice, a)).toEqual([[], []])
    expect(await told(bob, b)).toEqual([[], []])
  })

  test('new keys are told to who shares a room, and to the own devices; the same keys are not new', async () => {
    const [alice, bob, eve] = [await person('alice'), await person('bob'), await person('eve')]
    await room(alice, bob)
    const second = await server.login(bob.user_id)
    const [a, b, e] = [await since(alice), await since(second), await since(eve)]
    const device_keys = olmDevice(bob).device_keys
    await bob.must('POST', 'keys/upload', { device_keys })
    expect(await told(alice, a)).toEqual([[bob.user_id], []])
    expect(await told(second, b)).toEqual([[bob.user_id], []])
    expect(await told(eve, e)).toEqual([[], []])
    const after = await since(alice)
    await bob.must('POST', 'keys/upload', { device_keys, one_time_keys: olmDevice(bob).oneTimeKeys('A') })
    expect(await told(alice, after)).toEqual([[], []])
  })

  test('after a user has left, their keys are no concern', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const id = await room(alice, bob)
    await act(id, bob, 'leave')
    const from = await since(alice)
    await newKeys(bob)
    expect(await told(alice, from)).toEqual([[], []])
  })

  test('a device with keys that ends or gets another name is told, one without is not', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    await room(alice, bob)
    const [plain, keyed] = [await server.login(bob.user_id), await server.login(bob.user_id)]
    await newKeys(keyed)
    let from = await since(alice)
    await plain.must('PUT', `devices/${plain.device_id}`, { display_name: 'x' })
    await plain.must('POST', 'logout', {})
    expect(await told(alice, from)).toEqual([[], []])
    await keyed.must('PUT', `devices/${keyed.device_id}`, { display_name: 'x' })
    expect(await told(alice, from)).toEqual([[bob.user_id], []])
    from = await since(alice)
    await keyed.must('POST', 'logout', {})
    expect(await told(alice, from)).toEqual([[bob.user_id], []])
  })

  test('who deactivates the account is left', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    await newKeys(bob)
    await room(alice, bob)
    const from = await since(alice)
    const auth = { type: 'm.login.password', identifier: { type: 'm.id.user', user: bob.user_id }, password }
    await bob.must('POST', 'account/deactivate', { auth })
    expect(await told(alice, from)).toEqual([[], [bob.user_id]])
  })

  test('cross-signing keys are told; what is for one user’s eyes is told to that user alone', async () => {
    const [alice, bob, carol] = [await person('alice'), await person('bob'), await person('carol')]
    await room(alice, bob, carol)
    const [alices, bobs] = [crossSigning(alice.user_id), crossSigning(bob.user_id)]
    let [a, c] = [await since(alice), await since(carol)]
    await bob.must('POST', 'keys/device_signing/upload', bobs.body)
    expect(await told(alice, a)).toEqual([[bob.user_id], []])
    ;[a, c] = [await since(alice), await since(carol)]
    await alice.must('POST', 'keys/device_signing/upload', { master_key: alices.body.master_key })
    expect(await told(carol, c)).toEqual([[alice.user_id], []])
    ;[a, c] = [await since(alice), await since(carol)]
    const auth = { type: 'm.login.password', identifier: { type: 'm.id.user', user: alice.user_id }, password }
    const { user_signing_key } = alices.body
    await alice.must('POST', 'keys/device_signing/upload', { user_signing_key, auth })
    expect(await told(alice, a)).toEqual([[alice.user_id], []])
    expect(await told(carol, c)).toEqual([[], []])
  })

  test('rooms that a filter leaves out count all the same', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const id = await room(alice)
    const from = await since(alice)
    await act(id, bob, 'join')
    if (forgetful) server.forget()
    const filter = JSON.stringify({ room: { rooms: [] } })
    expect((await alice.sync({ since: from, filter })).device_lists).toEqual({ changed: [bob.user_id], left: [] })
  })
})

describe('client-server-api/#e2e-extensions-to-sync', () => {
  test('who waits is told at once, with one query or none', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    await room(alice, bob)
    for (const forgetful of [false, true]) {
      // A process that was just started does not know the other's rooms.
      if (forgetful) server.forget()
      const waiting = alice.sync({ since: await since(alice), timeout: 20_000 })
      await newKeys(bob)
      expect((await waiting).device_lists).toEqual({ changed: [bob.user_id], left: [] })
    }
  })

  test('a first sync has none', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    await room(alice, bob)
    expect((await alice.sync()).device_lists).toBeUndefined()
  })
})

describe('client-server-api/#get_matrixclientv3keyschanges', () => {
  test.each([
    ['', 'M_MISSING_PARAM'],
    ['from=s1_0_0_0_0_0_0', 'M_MISSING_PARAM'],
    ['from=x&to=s1_0_0_0_0_0_0', 'M_INVALID_PARAM'],
    ['from=s1_0_0_0_0_0_0&to=x', 'M_INVALID_PARAM'],
  ])('%j is refused', async (query, errcode) => {
    const refused = await (await person('alice')).ask('GET', `keys/changes?${query}`)
    expect(refused).toMatchObject({ status: 400, body: { errcode } })
  })
})

/** A client that does what the specification asks of it. */
interface Tracker {
  readonly client: TestClient
  token: string
  /** Keys of those whom it tracks, as it saw them last. */
  readonly seen: Map<string, number>
}

describe('whatever happens in whatever order', () => {
  test.each([1, 2, 3])(
    'a client knows the keys of all who share a room with it, and of nobody else (seed %i)',
    async (seed) => {
      const random = seeded(seed)
      const people = await Promise.all(Array.from({ length: 5 }, () => person('p')))
      const rooms = await Promise.all([0, 1, 2].map(async (i) => room(people[i] as TestClient)))
      const version = new Map(people.map((one) => [one.user_id as string, 0]))
      const inRoom = rooms.map((_, i) => new Set([people[i]?.user_id as string]))
      const sharing = ({ user_id }: TestClient) => {
        const found = new Set<string>([user_id])
        for (const members of inRoom) if (members.has(user_id)) for (const id of members) found.add(id)
        return found
      }
      const look = (tracker: Tracker, ids: Iterable<string>) => {
        for (const id of ids) tracker.seen.set(id, version.get(id) ?? 0)
      }
      const trackers: Tracker[] = []
      for (const client of people) {
        const tracker = { client, token: await since(client), seen: new Map<string, number>() }
        look(tracker, sharing(client))
        trackers.push(tracker)
      }
      const check = async (tracker: Tracker) => {
        const from = tracker.token
        // Half of them was away, and asks for what it missed.
        const away = random.below(2) === 0
        const answer = await tracker.client.sync(away ? {} : { since: from })
        tracker.token = answer.next_batch
        const lists = away
          ? await tracker.client.must('GET', `keys/changes?from=${from}&to=${answer.next_batch}`)
          : (answer.device_lists ?? { changed: [], left: [] })
        look(tracker, lists.changed)
        for (const id of lists.left) tracker.seen.delete(id)
        const expected = [...sharing(tracker.client)].map((id) => [id, version.get(id) ?? 0])
        expect([...tracker.seen].toSorted(), `${tracker.client.user_id} since ${from}`).toEqual(expected.toSorted())
      }
      for (let step = 0; step < 120; step++) {
        const one = random.pick(people)
        const at = random.below(rooms.length)
        switch (random.below(5)) {
          case 0:
            await newKeys(one)
            version.set(one.user_id, (version.get(one.user_id) ?? 0) + 1)
            break
          case 1:
            await act(rooms[at] as RoomId, one, 'join')
            inRoom[at]?.add(one.user_id)
            break
          case 2:
            // The first stays, or nobody could come back.
            if (!inRoom[at]?.has(one.user_id) || one === people[at]) break
            await act(rooms[at] as RoomId, one, 'leave')
            inRoom[at]?.delete(one.user_id)
            break
          case 3:
            if (random.below(4) === 0) server.forget()
            break
          default:
            await check(random.pick(trackers))
        }
      }
      for (const tracker of trackers) await check(tracker)
    },
  )
})
