/** A client that long-polls through whatever happens and fills the gaps of limited timelines, as clients do. */
import type { Insist, Person } from './requests.ts'

interface Event {
  readonly event_id: string
  readonly type: string
}

interface Timeline {
  readonly events: readonly Event[]
  readonly limited: boolean
  readonly prev_batch: string
}

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent

export class Follower {
  readonly person: Person
  readonly #insist: Insist
  readonly #timelines: Map<string, string[]>
  #since = ''
  #running = true

  constructor(person: Person, rooms: readonly string[], insist: Insist) {
    this.person = person
    this.#insist = insist
    this.#timelines = new Map(rooms.map((room) => [room, []]))
  }

  /** Ids of the messages heard of, in the order in which they came. */
  timeline(room: string): readonly string[] {
    return this.#timelines.get(room) ?? []
  }

  async start(): Promise<void> {
    const first = await this.#insist('GET', `${v3}/sync?timeout=0`, this.person.access_token)
    this.#since = String(first.next_batch)
  }

  async follow(): Promise<void> {
    while (this.#running) await this.#once(2_000)
  }

  stop(): void {
    this.#running = false
  }

  /** Until an answer has nothing more. */
  async catchUp(): Promise<void> {
    while (await this.#once(0));
  }

  async #once(timeoutMs: number): Promise<boolean> {
    const since = this.#since
    const path = `${v3}/sync?timeout=${timeoutMs}&since=${encode(since)}`
    const answer = await this.#insist('GET', path, this.person.access_token)
    const rooms = (answer.rooms as { join?: Record<string, { timeline: Timeline }> } | undefined)?.join ?? {}
    let heard = false
    for (const [room, { timeline }] of Object.entries(rooms)) {
      const known = this.#timelines.get(room)
      if (!known) continue
      if (timeline.limited) known.push(...(await this.#between(room, since, timeline.prev_batch)))
      for (const event of timeline.events) if (event.type === 'm.room.message') known.push(event.event_id)
      heard ||= timeline.events.length > 0
    }
    this.#since = String(answer.next_batch)
    return heard
  }

  /** What lies between the last answer and a timeline that does not reach back to it, oldest first. */
  async #between(room: string, since: string, upTo: string): Promise<string[]> {
    const found: string[] = []
    let from = upTo
    for (;;) {
      const path = `${v3}/rooms/${encode(room)}/messages?dir=b&limit=100&from=${encode(from)}&to=${encode(since)}`
      const page = await this.#insist('GET', path, this.person.access_token)
      for (const event of page.chunk as Event[]) if (event.type === 'm.room.message') found.push(event.event_id)
      if (typeof page.end !== 'string') return found.reverse()
      from = page.end
    }
  }
}
