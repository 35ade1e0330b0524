/** A load that knows what it was promised: senders repeat what was not acknowledged, followers keep a model of their rooms
 *  from sync alone, and at the end both are held against what the server has. */
import { setTimeout as sleep } from 'node:timers/promises'
import { seeded } from '../support/random.ts'
import { Follower } from './follower.ts'
import { type Insist, type Person, type Requests, requestsTo } from './requests.ts'

export interface LoadOptions {
  readonly baseUrl: string
  readonly people: readonly Person[]
  readonly rooms: number
  readonly seed: number
  /** Between two sends of one person, in milliseconds. */
  readonly pauseMs: number
}

export interface Report {
  readonly acknowledged: number
  readonly delivered: number
  /** Requests that were told to come back, by status. */
  readonly refused: ReadonlyMap<number, number>
  /** The longest that one request took to be answered with success, retries included. */
  readonly slowestMs: number
}

export interface Load<R> {
  readonly requests: Requests
  /** What was acknowledged so far. */
  readonly acknowledged: number
  /** How many send at once. */
  readonly lanes: number
  /** It has what it was to reach. */
  readonly enough: boolean
  /** Stops the senders, lets the followers catch up, and compares. Throws where something is lost, doubled or reordered. */
  finish(): Promise<R>
}

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

export async function startLoad(options: LoadOptions): Promise<Load<Report>> {
  const { people, baseUrl, pauseMs } = options
  const random = seeded(options.seed)
  const requests = requestsTo(baseUrl)
  const { insist, strange, refused } = requests
  let running = true

  const [owner] = people
  if (!owner) throw new Error('nobody to make load')
  const rooms: string[] = []
  for (let i = 0; i < options.rooms; i++) {
    const made = await insist('POST', `${v3}/createRoom`, owner.access_token, { preset: 'public_chat' })
    rooms.push(String(made.room_id))
  }
  for (const person of people.slice(1)) {
    for (const room of rooms) await insist('POST', `${v3}/join/${encode(room)}`, person.access_token, {})
  }
  const followers = people.map((person) => new Follower(person, rooms, insist))
  for (const follower of followers) await follower.start()

  /** Body → event id, by room. */
  const acknowledged = new Map<string, Map<string, string>>(rooms.map((room) => [room, new Map()]))
  let count = 0
  const lanes = people.map(async (person, lane) => {
    for (let i = 0; running; i++) {
      const room = random.pick(rooms)
      const body = `${lane}.${i}`
      const path = `${v3}/rooms/${encode(room)}/send/m.room.message/${body}`
      const sent = await insist('PUT', path, person.access_token, { msgtype: 'm.text', body })
      acknowledged.get(room)?.set(body, String(sent.event_id))
      count++
      if (i % 10 === 9) {
        const data = `${v3}/user/${encode(person.user_id)}/account_data/org.test.chaos`
        await insist('PUT', data, person.access_token, { value: i })
        const { value } = await insist('GET', data, person.access_token)
        if (value !== i)
          strange.push(`account data of ${person.user_id} is ${String(value)} after ${i} was acknowledged`)
      }
      await sleep(pauseMs)
    }
  })
  const following = followers.map((follower) => follower.follow())

  return {
    get acknowledged() {
      return count
    },
    lanes: people.length,
    enough: true,
    requests,
    async finish() {
      running = false
      await Promise.all(lanes)
      for (const follower of followers) follower.stop()
      await Promise.all(following)
      for (const follower of followers) await follower.catchUp()
      let delivered = 0
      for (const room of rooms) {
        const stored = await wholeTimeline(insist, owner, room)
        const byBody = new Map(stored.map(({ event_id, content }) => [content.body, event_id]))
        if (byBody.size !== stored.length)
          strange.push(`${room}: ${stored.length - byBody.size} messages are stored twice`)
        for (const [body, event_id] of acknowledged.get(room) ?? []) {
          if (byBody.get(body) !== event_id)
            strange.push(`${room}: ${body} was acknowledged as ${event_id} and is not there`)
        }
        const order = stored.map(({ event_id }) => event_id)
        for (const follower of followers) {
          const seen = follower.timeline(room)
          delivered += seen.length
          if (seen.join() !== order.join()) {
            strange.push(
              `${room}: ${follower.person.user_id} saw ${seen.length} of ${order.length} messages, ${difference(seen, order)}`,
            )
          }
        }
      }
      if (strange.length > 0) throw new Error(strange.slice(0, 20).join('\n'))
      return { acknowledged: count, delivered, refused, slowestMs: requests.slowestMs }
    },
  }
}

function difference(seen: readonly string[], order: readonly string[]): string {
  const there = new Set(seen)
  const lost = order.filter((id) => !there.has(id)).length
  const twice = seen.length - there.size
  return `${lost} lost, ${twice} doubled${lost + twice === 0 ? ', in another order' : ''}`
}

interface Message {
  readonly event_id: string
  readonly content: { readonly body: string }
}

async function wholeTimeline(insist: Insist, person: Person, room: string): Promise<Message[]> {
  const filter = encode(JSON.stringify({ types: ['m.room.message'] }))
  const messages: Message[] = []
  let from = ''
  for (;;) {
    const path = `${v3}/rooms/${encode(room)}/messages?dir=f&limit=500&filter=${filter}${from && `&from=${from}`}`
    const page = await insist('GET', path, person.access_token)
    messages.push(...(page.chunk as Message[]))
    if (typeof page.end !== 'string') return messages
    from = page.end
  }
}
