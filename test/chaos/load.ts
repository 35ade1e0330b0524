/** A load that knows what it was promised: senders repeat what was not acknowledged, followers keep a model of their rooms
 *  from sync alone, and at the end both are held against what the server has. */
import { setTimeout as sleep } from 'node:timers/promises'
import { seeded } from '../support/random.ts'
import { Follower } from './follower.ts'

export interface Person {
  readonly user_id: string
  readonly access_token: string
}

export interface Answered {
  readonly status: number
  readonly json: Record<string, unknown>
  readonly retryAfter: string | null
}

export type Ask = (method: string, path: string, token: string, body?: unknown) => Promise<Answered>

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

export interface Load {
  /** Sends acknowledged so far. */
  readonly acknowledged: number
  readonly refused: ReadonlyMap<number, number>
  /** What may not happen: answers that are no Matrix errors, codes that nothing explains, gaps. */
  readonly strange: readonly string[]
  /** Stops the senders, lets the followers catch up, and compares. Throws where something is lost, doubled or reordered. */
  finish(): Promise<Report>
}

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent
const requestMsMax = 60_000

export async function startLoad(options: LoadOptions): Promise<Load> {
  const { people, baseUrl, pauseMs } = options
  const random = seeded(options.seed)
  const refused = new Map<number, number>()
  const strange: string[] = []
  let running = true
  let slowestMs = 0

  async function ask(method: string, path: string, token: string, body?: unknown): Promise<Answered> {
    const answer = await fetch(baseUrl + path, {
      method,
      headers: { Authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(requestMsMax),
    })
    const text = await answer.text()
    const json = parsed(text)
    if (!json) throw new Error(`${method} ${path}: ${answer.status} and no JSON: ${text.slice(0, 200)}`)
    return { status: answer.status, json, retryAfter: answer.headers.get('retry-after') }
  }

  /** Repeats a request until it is answered with success. Only for what may be repeated. */
  async function insist(method: string, path: string, token: string, body?: unknown): Promise<Record<string, unknown>> {
    const beganMs = performance.now()
    for (;;) {
      const answered = await ask(method, path, token, body).catch((error: unknown) => String(error))
      if (typeof answered === 'string') strange.push(answered)
      else if (answered.status === 200) {
        slowestMs = Math.max(slowestMs, performance.now() - beganMs)
        return answered.json
      } else {
        refused.set(answered.status, (refused.get(answered.status) ?? 0) + 1)
        const explained = [429, 502, 503, 504].includes(answered.status) && typeof answered.json.errcode === 'string'
        if (!explained) strange.push(`${method} ${path}: ${answered.status} ${JSON.stringify(answered.json)}`)
      }
      if (performance.now() - beganMs > 2 * requestMsMax) throw new Error(`${method} ${path} was never answered`)
      await sleep(50)
    }
  }

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
    refused,
    strange,
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
      return { acknowledged: count, delivered, refused, slowestMs }
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

async function wholeTimeline(
  insist: (method: string, path: string, token: string) => Promise<Record<string, unknown>>,
  person: Person,
  room: string,
): Promise<Message[]> {
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

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch {
    return undefined
  }
}
