/** Chains of requests in which each looks for what the one before it did, sent to another handler every time. */
import { seeded } from '../support/random.ts'

export interface Person {
  readonly user_id: string
  readonly device_id: string
  readonly access_token: string
}

export type Ask = (method: string, path: string, token: string, body?: unknown) => Promise<Record<string, unknown>>

interface Sync {
  readonly next_batch: string
  readonly device_lists?: { readonly changed: readonly string[] }
  readonly device_one_time_keys_count?: Readonly<Record<string, number>>
  readonly rooms?: {
    readonly join?: Record<string, { readonly timeline: { readonly events: readonly { readonly event_id: string }[] } }>
    readonly invite?: Record<string, unknown>
  }
}

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

/** One chain between two people; throws with a sentence where an answer is stale. */
export async function runChain(ask: Ask, [alice, bob]: readonly [Person, Person], seed: number): Promise<void> {
  const { next: random } = seeded(seed)
  const get = (path: string, who: Person) => ask('GET', path, who.access_token)
  const sync = (who: Person, since?: string) =>
    get(`${v3}/sync?timeout=0${since ? `&since=${since}` : `&filter=${quiet}`}`, who) as unknown as Promise<Sync>
  const before = await sync(bob)

  const { room_id } = await ask('POST', `${v3}/createRoom`, alice.access_token, {
    preset: 'private_chat',
    ...(random() < 0.5 ? { invite: [bob.user_id] } : {}),
  })
  const room = `${v3}/rooms/${encode(String(room_id))}`
  const membership = async (who: Person) => {
    const { chunk } = await get(`${room}/members`, who)
    const members = chunk as { state_key: string; content: { membership: string } }[]
    return members.find((event) => event.state_key === bob.user_id)?.content.membership
  }
  if ((await membership(alice)) === undefined) {
    await ask('POST', `${room}/invite`, alice.access_token, { user_id: bob.user_id })
  }
  expectSame(await membership(alice), 'invite', 'members after the invite')
  const invited = await sync(bob, before.next_batch)
  if (!invited.rooms?.invite?.[String(room_id)]) throw new Error('the sync after the invite does not have it')
  await ask('POST', `${v3}/join/${encode(String(room_id))}`, bob.access_token, {})
  expectSame(await membership(random() < 0.5 ? alice : bob), 'join', 'members after the join')
  const { joined } = await get(`${room}/joined_members`, bob)
  if (!Object.hasOwn(joined as object, bob.user_id)) throw new Error('joined_members after the join lacks who joined')

  let since = (await sync(alice, (await sync(alice)).next_batch)).next_batch
  for (let i = 0; i < 2; i++) {
    const [speaker, listener] = random() < 0.5 ? [alice, bob] : [bob, alice]
    const body = { msgtype: 'm.text', body: `${seed}.${i}` }
    const sent = await ask('PUT', `${room}/send/m.room.message/${seed}.${i}`, speaker.access_token, body)
    const { chunk } = await get(`${room}/messages?dir=b&limit=1`, listener)
    expectSame((chunk as { event_id: string }[])[0]?.event_id, sent.event_id, 'the newest of /messages after the send')
    const found = await get(`${room}/event/${encode(String(sent.event_id))}`, listener)
    expectSame(found.event_id, sent.event_id, 'the event after the send')
    const heard = await sync(alice, since)
    since = heard.next_batch
    const events = heard.rooms?.join?.[String(room_id)]?.timeline.events ?? []
    expectSame(events.filter((event) => event.event_id === sent.event_id).length, 1, 'the event in the sync after it')
  }
  const state = await ask('PUT', `${room}/state/m.room.topic`, alice.access_token, { topic: String(seed) })
  const topic = await get(`${room}/state/m.room.topic`, bob)
  expectSame(topic.topic, String(seed), `the topic after ${String(state.event_id)}`)
  await runKeys(ask, [alice, bob], seed, since)
}

/** Bob's device gets other keys, and Alice claims one. They share a room. */
async function runKeys(ask: Ask, [alice, bob]: readonly [Person, Person], seed: number, since: string): Promise<void> {
  const { user_id, device_id } = bob
  const keys = { [`ed25519:${device_id}`]: `key ${seed}` }
  const name = `signed_curve25519:${seed}`
  const uploaded = await ask('POST', `${v3}/keys/upload`, bob.access_token, {
    device_keys: { user_id, device_id, algorithms: [], keys, signatures: {} },
    one_time_keys: { [name]: { key: 'x', signatures: {} } },
  })
  const counted = (answer: object, what: string, n: number) =>
    expectSame((Object.values(answer)[0] as Record<string, number>).signed_curve25519, n, what)
  counted(uploaded, 'the count in the answer to the upload', 1)
  const sync = (who: Person, query: string) =>
    ask('GET', `${v3}/sync?timeout=0&${query}`, who.access_token) as unknown as Promise<Sync>
  const told = await sync(alice, `since=${since}`)
  if (!told.device_lists?.changed.includes(user_id))
    throw new Error('stale: the sync after the upload lacks the device')
  const query = { device_keys: { [user_id]: [device_id] } }
  const found = (await ask('POST', `${v3}/keys/query`, alice.access_token, query)).device_keys
  const device = (found as Record<string, Record<string, { keys: object }>>)[user_id]?.[device_id]
  expectSame(JSON.stringify(device?.keys), JSON.stringify(keys), 'the keys after the upload')
  const before = await sync(bob, `filter=${quiet}`)
  counted([before.device_one_time_keys_count ?? {}], 'the count in the sync after the upload', 1)
  const claim = { one_time_keys: { [user_id]: { [device_id]: 'signed_curve25519' } } }
  const { one_time_keys } = await ask('POST', `${v3}/keys/claim`, alice.access_token, claim)
  const claimed = (one_time_keys as Record<string, Record<string, object>>)[user_id]?.[device_id] ?? {}
  expectSame(Object.keys(claimed)[0], name, 'the key that was claimed')
  const after = await sync(bob, `since=${before.next_batch}`)
  counted([after.device_one_time_keys_count ?? {}], 'the count in the sync after the claim', 0)
}

const quiet = encode(JSON.stringify({ room: { timeline: { limit: 0 }, state: { types: [] } } }))

function expectSame(found: unknown, expected: unknown, what: string): void {
  if (found !== expected) throw new Error(`stale: ${what} is ${String(found)}, not ${String(expected)}`)
}
