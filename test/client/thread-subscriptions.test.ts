/** Following threads. https://github.com/matrix-org/matrix-spec-proposals/pull/4306
 *  and https://github.com/matrix-org/matrix-spec-proposals/pull/4308 */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ClientServer, clientServer, type Reply, type TestClient } from '../support/client-server.ts'

const unstable = '/_matrix/client/unstable'
const extension = 'io.element.msc4308.thread_subscriptions'

let hs: ClientServer
let users = 0
let sent = 0
beforeAll(async () => {
  hs = await clientServer()
})
afterAll(() => hs.close())

interface Place {
  readonly alice: TestClient
  readonly room_id: string
}
async function place(): Promise<Place> {
  const alice = await hs.register(`person${++users}`)
  const { room_id } = await alice.must('POST', 'createRoom', { preset: 'public_chat' })
  return { alice, room_id }
}
async function say({ alice, room_id }: Place, root?: string): Promise<string> {
  const relation = root === undefined ? {} : { 'm.relates_to': { rel_type: 'm.thread', event_id: root } }
  const content = { msgtype: 'm.text', body: 'hello', ...relation }
  return (await alice.must('PUT', `rooms/${room_id}/send/m.room.message/${++sent}`, content)).event_id
}
const path = (room_id: string, root: string) =>
  `${unstable}/io.element.msc4306/rooms/${room_id}/thread/${encodeURIComponent(root)}/subscription`
const ask = (who: TestClient, method: string, room_id: string, root: string, body?: object): Promise<Reply> =>
  who.ask(method, path(room_id, root), body)
const follow = ({ alice, room_id }: Place, root: string, automatic?: string) =>
  ask(alice, 'PUT', room_id, root, automatic === undefined ? {} : { automatic })
const follows = async ({ alice, room_id }: Place, root: string) => {
  const { status, body } = await ask(alice, 'GET', room_id, root)
  return status === 404 ? undefined : body
}
const done = { status: 200, body: {} }
const fails = (status: number, errcode: string) => ({ status, body: { errcode } })

describe('MSC4306', () => {
  test('a user follows a thread, and ceases to; twice is once', async () => {
    const here = await place()
    const { alice, room_id } = here
    const root = await say(here)
    expect(await ask(alice, 'GET', room_id, root)).toMatchObject(fails(404, 'M_NOT_FOUND'))
    for (let i = 0; i < 2; i++) expect(await follow(here, root)).toEqual(done)
    expect(await follows(here, root)).toEqual({ automatic: false })
    for (let i = 0; i < 2; i++) expect(await ask(alice, 'DELETE', room_id, root)).toEqual(done)
    expect(await follows(here, root)).toBeUndefined()
    expect(await ask(alice, 'PUT', room_id, root)).toEqual(done)
    expect(await follows(here, root)).toEqual({ automatic: false })
  })

  test("what the user asks for takes the place of the client's own, not the other way round", async () => {
    const here = await place()
    const root = await say(here)
    const reply = await say(here, root)
    await follow(here, root, reply)
    expect(await follows(here, root)).toEqual({ automatic: true })
    await follow(here, root)
    expect(await follows(here, root)).toEqual({ automatic: false })
    await follow(here, root, reply)
    expect(await follows(here, root)).toEqual({ automatic: false })
  })

  test('a client subscribes by itself for an event of that thread alone', async () => {
    const here = await place()
    const [root, other] = [await say(here), await say(here)]
    const elsewhere = await place()
    const foreign = await say(elsewhere, await say(elsewhere))
    const notInThread = fails(400, 'IO.ELEMENT.MSC4306.M_NOT_IN_THREAD')
    expect(await follow(here, root, root)).toMatchObject(notInThread)
    expect(await follow(here, root, await say(here, other))).toMatchObject(notInThread)
    expect(await follow(here, root, '$nothing')).toMatchObject(fails(404, 'M_NOT_FOUND'))
    expect(await follow(here, root, foreign)).toMatchObject(fails(404, 'M_NOT_FOUND'))
    expect(await follow(here, root, 'no event')).toMatchObject({ status: 400 })
    expect(await follows(here, root)).toBeUndefined()
  })

  test('nothing that the user had seen when they ceased to follow subscribes them again', async () => {
    const here = await place()
    const root = await say(here)
    const first = await say(here, root)
    await follow(here, root, first)
    const second = await say(here, root)
    await ask(here.alice, 'DELETE', here.room_id, root)
    const third = await say(here, root)
    for (const cause of [first, second]) {
      expect(await follow(here, root, cause)).toMatchObject(
        fails(409, 'IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION'),
      )
      expect(await follows(here, root)).toBeUndefined()
    }
    expect(await follow(here, root, third)).toEqual(done)
    expect(await follows(here, root)).toEqual({ automatic: true })
    // Asked for, it is a subscription whatever was before.
    await ask(here.alice, 'DELETE', here.room_id, root)
    expect(await follow(here, root)).toEqual(done)
  })

  test('a thread that the user can not see is not there', async () => {
    const here = await place()
    const root = await say(here)
    const { alice: bob, room_id: own } = await place()
    for (const method of ['GET', 'PUT', 'DELETE']) {
      const body = method === 'PUT' ? {} : undefined
      expect(await ask(bob, method, here.room_id, root, body)).toMatchObject(fails(404, 'M_NOT_FOUND'))
      expect(await ask(bob, method, own, root, body)).toMatchObject(fails(404, 'M_NOT_FOUND'))
      expect(await ask(bob, method, own, '$notathread:example.org', body)).toMatchObject(fails(404, 'M_NOT_FOUND'))
      expect(await ask(bob, method, own, 'none', body)).toMatchObject({ status: 400 })
    }
  })

  test('they go with the account', async () => {
    const here = await place()
    const { user_id } = here.alice
    await follow(here, await say(here))
    await hs.main.commands.deactivateAccount({ user_id, erase: false })
    expect(await hs.main.database.sql`select from thread_subscriptions where user_id = ${user_id}`).toHaveLength(0)
  })
})

/** One look of sliding sync at the extension. */
async function slide(who: TestClient, pos?: string, config: object = { enabled: true }, timeout = 0) {
  const url = `${unstable}/org.matrix.simplified_msc3575/sync?timeout=${timeout}`
  const body = await who.must('POST', url, { pos, extensions: { [extension]: config } })
  return { pos: body.pos as string, told: body.extensions[extension] }
}
const stamped = { bump_stamp: expect.any(Number) }

describe('MSC4308', () => {
  test('sliding sync tells what there is, then what changes, from whichever process', async () => {
    const here = await place()
    const { alice, room_id } = here
    const [one, two] = [await say(here), await say(here)]
    const nothing = await slide(alice)
    expect(nothing.told).toBeUndefined()
    await follow(here, one)
    const subscribed = { [room_id]: { [one]: { ...stamped, automatic: false } } }
    const first = await slide(alice, nothing.pos)
    expect(first.told).toEqual({ subscribed })
    expect((await slide(alice, first.pos)).told).toBeUndefined()
    expect((await slide(alice, nothing.pos)).told).toEqual({ subscribed })

    const waiting = slide(alice, first.pos, { enabled: true }, 10_000)
    await follow(here, two, await say(here, two))
    const second = await waiting
    expect(second.told).toEqual({ subscribed: { [room_id]: { [two]: { ...stamped, automatic: true } } } })
    await ask(alice, 'DELETE', room_id, one)
    expect((await slide(alice, second.pos)).told).toEqual({ unsubscribed: { [room_id]: { [one]: stamped } } })

    hs.forget()
    const all = {
      subscribed: { [room_id]: { [two]: { ...stamped, automatic: true } } },
      unsubscribed: { [room_id]: { [one]: stamped } },
    }
    expect((await slide(alice)).told).toEqual(all)
  })

  test('a connection that asks for it later is told of all', async () => {
    const here = await place()
    const root = await say(here)
    await follow(here, root)
    const { pos, told } = await slide(here.alice, undefined, { enabled: false })
    expect(told).toBeUndefined()
    const later = await slide(here.alice, pos)
    expect(later.told).toEqual({ subscribed: { [here.room_id]: { [root]: { ...stamped, automatic: false } } } })
    expect((await slide(here.alice, later.pos)).told).toBeUndefined()
  })

  test('what is beyond the limit is there in pages, up to where the client was', async () => {
    const here = await place()
    const { alice, room_id } = here
    const before = await slide(alice)
    const roots: string[] = []
    for (let i = 0; i < 7; i++) {
      const root = await say(here)
      await follow(here, root)
      roots.push(root)
    }
    const after = await slide(alice, before.pos, { enabled: true, limit: 2 })
    const { subscribed, prev_batch } = after.told
    expect(Object.keys(subscribed[room_id])).toEqual(roots.slice(5).reverse())

    const page = (query: Record<string, string>) =>
      alice.must('GET', `${unstable}/io.element.msc4308/thread_subscriptions?${new URLSearchParams(query)}`)
    const found: string[] = []
    for (let from = prev_batch; from !== undefined; ) {
      const body = await page({ dir: 'b', limit: '2', from, to: before.pos })
      found.push(...Object.keys(body.subscribed[room_id]))
      from = body.end
    }
    expect(found).toEqual(roots.slice(0, 5).reverse())
    expect(await page({ dir: 'b', from: prev_batch, to: after.pos })).toEqual({})
    const whole = await page({ dir: 'b' })
    expect(Object.keys(whole.subscribed[room_id])).toEqual(roots.toReversed())
    expect(whole).not.toHaveProperty('end')
    // A stamp tells which of two is the later one.
    const stamps = roots.map((root) => whole.subscribed[room_id][root].bump_stamp)
    expect(stamps).toEqual(stamps.toSorted((a, b) => a - b))
  })

  test.each(['', 'dir=f', 'dir=b&limit=0', 'dir=b&limit=-1', 'dir=b&from=x', 'dir=b&to=s3_1'])(
    'a page by ?%s is refused',
    async (query) => {
      const { alice } = await place()
      const reply = await alice.ask('GET', `${unstable}/io.element.msc4308/thread_subscriptions?${query}`)
      expect(reply.status).toBe(400)
    },
  )
})
