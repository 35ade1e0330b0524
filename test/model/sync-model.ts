/** What a client knows from sync alone: rooms, state, timelines, account data. Gaps are filled from `prev_batch`. */
import type { HttpClient } from '../support/http-client.ts'

interface ClientEvent {
  readonly event_id: string
  readonly type: string
  readonly state_key?: string
  readonly sender: string
}

interface RoomAnswer {
  readonly state?: { events: ClientEvent[] }
  readonly timeline?: { events: ClientEvent[]; limited?: boolean; prev_batch?: string }
  readonly account_data?: { events: { type: string; content: unknown }[] }
}

interface SyncAnswer {
  readonly next_batch: string
  readonly account_data?: { events: { type: string; content: unknown }[] }
  readonly rooms?: {
    readonly join?: Record<string, RoomAnswer>
    readonly leave?: Record<string, RoomAnswer>
    readonly invite?: Record<string, unknown>
    readonly knock?: Record<string, unknown>
  }
}

export interface ModelRoom {
  /** `type\0state_key` → event id. */
  state: Map<string, string>
  /** Event ids, oldest first; complete from the first event seen on, gaps filled. */
  readonly timeline: string[]
}

export class SyncModel {
  readonly userId: string
  readonly joined = new Map<string, ModelRoom>()
  readonly invited = new Set<string>()
  readonly accountData = new Map<string, unknown>()
  readonly #http: HttpClient
  readonly #token: string
  #since: string | undefined
  #last: Promise<unknown> = Promise.resolve()

  constructor(http: HttpClient, user: { user_id: string; access_token: string }) {
    this.#http = http
    this.userId = user.user_id
    this.#token = user.access_token
  }

  /** One sync after the other; true if it brought anything. */
  sync(options: { timeline_limit: number }): Promise<boolean> {
    const next = this.#last.then(() => this.#sync(options))
    this.#last = next.catch(() => false)
    return next
  }

  async #sync(options: { timeline_limit: number }): Promise<boolean> {
    const query = new URLSearchParams({
      timeout: '0',
      filter: JSON.stringify({ room: { timeline: { limit: options.timeline_limit } } }),
    })
    if (this.#since) query.set('since', this.#since)
    const answer = await this.#http.json<SyncAnswer>('GET', `/_matrix/client/v3/sync?${query}`, this.#token)
    for (const { type, content } of answer.account_data?.events ?? []) this.accountData.set(type, content)
    const rooms = answer.rooms ?? {}
    for (const [id, room] of Object.entries(rooms.join ?? {})) await this.#joined(id, room)
    for (const id of Object.keys(rooms.leave ?? {})) {
      this.joined.delete(id)
      this.invited.delete(id)
    }
    for (const id of Object.keys(rooms.invite ?? {})) {
      this.joined.delete(id)
      this.invited.add(id)
    }
    this.#since = answer.next_batch
    return Object.values(rooms).some((section) => Object.keys(section ?? {}).length > 0)
  }

  async #joined(id: string, answer: RoomAnswer): Promise<void> {
    this.invited.delete(id)
    const room = this.joined.get(id) ?? { state: new Map<string, string>(), timeline: [] }
    this.joined.set(id, room)
    const events = answer.timeline?.events ?? []
    const known = new Set(room.timeline)
    const fresh = events.filter((event) => !known.has(event.event_id))
    if (answer.timeline?.limited) {
      // Who left and came back is shown the room anew: what is shown again closes the gap.
      if (known.size > 0 && fresh.length === events.length) {
        room.timeline.push(...(await this.#gap(id, room, answer.timeline.prev_batch)))
      }
    } else if (fresh.length < events.length) {
      throw new Error(`${this.userId}: events of ${id} came twice`)
    }
    room.timeline.push(...fresh.map((event) => event.event_id))
    for (const event of [...(answer.state?.events ?? []), ...events]) {
      if (event.state_key !== undefined) room.state.set(`${event.type}\0${event.state_key}`, event.event_id)
    }
  }

  /** Event ids between the last one known and `prevBatch`, oldest first. */
  async #gap(id: string, room: ModelRoom, prevBatch: string | undefined): Promise<string[]> {
    const last = room.timeline.at(-1)
    const missing: string[] = []
    let from = prevBatch
    while (from) {
      const path = `/_matrix/client/v3/rooms/${encodeURIComponent(id)}/messages?dir=b&limit=7&from=${from}`
      const page: { chunk: ClientEvent[]; end?: string } = await this.#http.json('GET', path, this.#token)
      for (const event of page.chunk) {
        if (event.event_id === last) return missing.reverse()
        missing.push(event.event_id)
      }
      from = page.end
    }
    throw new Error(`${this.userId}: the gap in ${id} never reaches the last event known, ${last}`)
  }
}
