/** Messages to devices and claims of one-time keys, as many as are wanted: at the end each message has arrived once and in its
 *  sender's order, and no key was given to two. */
import { setTimeout as sleep } from 'node:timers/promises'
import { connectForReading } from '../../shared/storage/sql.ts'
import { type Random, seeded } from '../support/random.ts'
import type { TestRoles } from '../support/roles.ts'
import { algorithm, type Device, Inbox, keyNamed } from './inbox.ts'
import type { Load } from './load.ts'
import { requestsTo } from './requests.ts'

export interface KeysLoadOptions {
  readonly seed: number
  /** At least. */
  readonly messages: number
  /** Answered with a key, at least. */
  readonly claims: number
  /** Between two requests of one sender, in milliseconds. */
  readonly pauseMs: number
}

export interface KeysReport {
  readonly messages: number
  readonly claims: number
  readonly uploaded: number
  /** Keys that went out with answers which never arrived: claims are no requests that can be repeated. */
  readonly unheard: number
  /** Answers that their device lost, and asked for again. */
  readonly lost: number
  /** Positions of sliding sync that were not known any more. */
  readonly unknown: number
  readonly refused: ReadonlyMap<number, number>
  readonly slowestMs: number
}

const senders = 8
const claimers = 8
/** Each with two devices: one reads by /sync, one by sliding sync. */
const receivers = 10
/** To so many users goes a request, to both devices of each; and so many users a claim is about. */
const usersAtOnce = 5
/** Messages and claims stay so close together, in parts of what is wanted. */
const aheadMax = 0.02
const waitMs = 20
const v3 = '/_matrix/client/v3'

export async function startKeysLoad(roles: TestRoles, options: KeysLoadOptions): Promise<Load<KeysReport>> {
  const { pauseMs } = options
  const random = seeded(options.seed)
  const requests = requestsTo(roles.url)
  const { insist, strange, refused } = requests
  const people: Device[] = []
  for (let i = 0; i < senders + claimers; i++) people.push(await roles.register(`sender${i}`))
  const inboxes: Inbox[] = []
  for (let i = 0; i < receivers; i++) {
    const { password, ...first } = await roles.register(`receiver${i}`)
    const login = { type: 'm.login.password', identifier: { type: 'm.id.user', user: first.user_id }, password }
    const second = (await insist('POST', `${v3}/login`, '', login)) as unknown as Device
    inboxes.push(new Inbox(first, 'sync', insist, random), new Inbox(second, 'sliding sync', insist, random))
  }
  await Promise.all(inboxes.map((inbox) => inbox.start()))
  const byUser = Map.groupBy(inboxes, ({ device }) => device.user_id)
  const users = [...byUser]

  let running = true
  let [messages, claims, claimRequests, brokenClaims] = [0, 0, 0, 0]
  const done = () => ({ messages: messages / options.messages, claims: claims / options.claims })
  /** Who is ahead of the other waits, so that both meet all faults. */
  const turn = async (mine: keyof ReturnType<typeof done>, other: keyof ReturnType<typeof done>) => {
    await sleep(pauseMs)
    while (running && done()[mine] > done()[other] + aheadMax) await sleep(waitMs)
  }

  /** By sender, what each inbox has to have got in the end. */
  const sent = new Map(people.map(({ user_id }) => [user_id, new Map<Inbox, number[]>()]))
  const sending = people.slice(0, senders).map(async ({ user_id, access_token }) => {
    const mine = sent.get(user_id)
    for (let n = 0; running; n++) {
      const to = some(users, random)
      const content = { n }
      const toDevices = (of: readonly Inbox[]) =>
        random.below(2) === 0
          ? { '*': content }
          : Object.fromEntries(of.map(({ device }) => [device.device_id, content]))
      const body = { messages: Object.fromEntries(to.map(([user, of]) => [user, toDevices(of)])) }
      await insist('PUT', `${v3}/sendToDevice/m.test/${n}`, access_token, body)
      for (const inbox of to.flatMap(([, of]) => of)) {
        const numbers = mine?.get(inbox)
        if (numbers) numbers.push(n)
        else mine?.set(inbox, [n])
        messages++
      }
      await turn('messages', 'claims')
    }
  })

  const given = new Set<string>()
  const claiming = people.slice(senders).map(async ({ access_token }) => {
    while (running) {
      const wanted = some(users, random).map(([user, of]): [string, object] => [
        user,
        Object.fromEntries(of.map(({ device }) => [device.device_id, algorithm])),
      ])
      claimRequests++
      const body = { one_time_keys: Object.fromEntries(wanted) }
      const answer = await insist('POST', `${v3}/keys/claim`, access_token, body, { onBroken: () => brokenClaims++ })
      for (const [user, devices] of Object.entries(answer.one_time_keys as Claimed)) {
        for (const [device, keys] of Object.entries(devices)) {
          for (const [name, { key }] of Object.entries(keys)) {
            const key_id = name.slice(algorithm.length + 1)
            if (key !== keyNamed(device, key_id)) strange.push(`${name} of ${device} of ${user} is ${key}`)
            const known = given.size
            given.add(`${user} ${keyNamed(device, key_id)}`)
            if (given.size === known) strange.push(`${name} of ${device} of ${user} was given out twice`)
            claims++
          }
        }
      }
      await turn('claims', 'messages')
    }
  })
  const following = inboxes.map((inbox) => inbox.follow())

  return {
    get acknowledged() {
      return Math.min(messages, claims)
    },
    // Each request is about the devices of several users.
    lanes: senders * 2 * usersAtOnce,
    get enough() {
      const { messages, claims } = done()
      return messages >= 1 && claims >= 1
    },
    requests,
    async finish() {
      running = false
      await Promise.all([...sending, ...claiming])
      for (const inbox of inboxes) inbox.stop()
      await Promise.all(following)
      for (const inbox of inboxes) await inbox.catchUp()
      for (const [sender, expected] of sent) {
        for (const inbox of inboxes) {
          const [wanted, got] = [expected.get(inbox) ?? [], inbox.received.get(sender) ?? []]
          if (got.join() !== wanted.join()) strange.push(`${nameOf(inbox)} from ${sender}: ${difference(got, wanted)}`)
        }
      }
      const stored = await storedKeys(roles.databaseUrl)
      let unheard = 0
      for (const inbox of inboxes) {
        const name = `${inbox.device.user_id} ${inbox.device.device_id}`
        const { left, claimed } = stored.keys.get(name) ?? { left: new Set<string>(), claimed: 0 }
        if (left.size + claimed !== inbox.uploaded) {
          strange.push(`${nameOf(inbox)} uploaded ${inbox.uploaded} keys; ${left.size} are there, ${claimed} went out`)
        }
        if (left.size !== inbox.keysLeft) {
          strange.push(`${nameOf(inbox)} was told of ${inbox.keysLeft} keys; ${left.size} are there`)
        }
        const both = [...left].filter((key_id) =>
          given.has(`${inbox.device.user_id} ${keyNamed(inbox.device.device_id, key_id)}`),
        )
        if (both.length > 0) strange.push(`${nameOf(inbox)} has keys that went out: ${both.slice(0, 5).join()}`)
        unheard += claimed
      }
      unheard -= given.size
      if (unheard < 0) strange.push(`${-unheard} keys were given out, and the database knows nothing of it`)
      if (unheard > brokenClaims * 2 * usersAtOnce) {
        strange.push(`${unheard} keys went to nobody, and ${brokenClaims} of ${claimRequests} claims were not answered`)
      }
      if (stored.messages > 0) strange.push(`${stored.messages} messages are kept though all were acknowledged`)
      if (strange.length > 0) throw new Error(strange.slice(0, 20).join('\n'))
      const sum = (of: (inbox: Inbox) => number) => inboxes.reduce((total, inbox) => total + of(inbox), 0)
      return {
        messages,
        claims,
        uploaded: sum(({ uploaded }) => uploaded),
        unheard,
        lost: sum(({ lost }) => lost),
        unknown: sum(({ unknown }) => unknown),
        refused,
        slowestMs: requests.slowestMs,
      }
    },
  }
}

type Claimed = Record<string, Record<string, Record<string, { readonly key: string }>>>

/** A few of them, each once. */
function some<T>(values: readonly T[], random: Random): T[] {
  const chosen = new Set<T>()
  while (chosen.size < usersAtOnce) chosen.add(random.pick(values))
  return [...chosen]
}

const nameOf = ({ device: { user_id, device_id } }: Inbox) => `${user_id}'s ${device_id}`

function difference(got: readonly number[], wanted: readonly number[]): string {
  const there = new Set(got)
  const lost = wanted.filter((n) => !there.has(n)).length
  const twice = got.length - there.size
  return `${got.length} of ${wanted.length}, ${lost} lost, ${twice} doubled${lost + twice === 0 ? ', in another order' : ''}`
}

/** By user and device, the ids of the keys that are there and the number of those that went out; and messages in inboxes. */
async function storedKeys(url: string) {
  const sql = connectForReading({ url, connections: 1, applicationName: 'test' })
  try {
    const left = await sql<{ user_id: string; device_id: string; key_id: string }[]>`
      select user_id, device_id, key_id from one_time_keys`
    const claimed = await sql<{ user_id: string; device_id: string; n: number }[]>`
      select user_id, device_id, count(*) as n from claimed_keys group by user_id, device_id`
    const [inboxes] = await sql<{ n: number }[]>`select count(*) as n from to_device`
    const keys = new Map<string, { left: Set<string>; claimed: number }>()
    const entry = (name: string) => {
      const known = keys.get(name) ?? { left: new Set(), claimed: 0 }
      keys.set(name, known)
      return known
    }
    for (const { user_id, device_id, key_id } of left) entry(`${user_id} ${device_id}`).left.add(key_id)
    for (const { user_id, device_id, n } of claimed) entry(`${user_id} ${device_id}`).claimed = n
    return { keys, messages: inboxes?.n ?? 0 }
  } finally {
    await sql.end()
  }
}
