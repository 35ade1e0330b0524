/** A user's view of a homeserver, over plain requests: the same for either of the two. */
import type { JsonObject } from '../../shared/matrix/json-value.ts'

export interface Person {
  readonly user_id: string
  readonly server_name: string
  readonly account: {
    readonly user_id: string
    readonly access_token: string
    readonly device_id: string
    readonly password: string
  }
  readonly baseUrl: string
  /** The body of a 200; throws for all else. */
  ask(method: string, path: string, body?: object): Promise<JsonObject>
  send(room_id: string, type: string, content: object): Promise<string>
  setState(room_id: string, type: string, state_key: string, content: object): Promise<string>
  say(room_id: string, body: string): Promise<string>
  join(room_id: string, via?: string): Promise<void>
  /** Ids of the room's current state, by type and key. */
  state(room_id: string): Promise<Record<string, string>>
  /** All events of the timeline that this user may see, oldest first. */
  timeline(room_id: string): Promise<readonly SeenEvent[]>
  /** `join`, `invite`, …; undefined where the user is not in the room at all. */
  membership(room_id: string): Promise<string | undefined>
}

export interface SeenEvent extends JsonObject {
  readonly event_id: string
  readonly type: string
  readonly sender: string
  readonly content: JsonObject
}

const pageMax = 100
let txn = 0

export function person(baseUrl: string, server_name: string, account: Person['account']): Person {
  const { user_id, access_token } = account
  const encoded = encodeURIComponent

  async function ask(method: string, path: string, body?: object): Promise<JsonObject> {
    const answer = await fetch(`${baseUrl}/_matrix/client/v3${path}`, {
      method,
      headers: { authorization: `Bearer ${access_token}`, 'content-type': 'application/json' },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const said = await answer.text()
    if (!answer.ok) throw new Error(`${user_id}: ${method} ${path}: ${answer.status} ${said.slice(0, 500)}`)
    return JSON.parse(said) as JsonObject
  }
  const self: Person = {
    user_id,
    server_name,
    account,
    baseUrl,
    ask,
    async send(room_id, type, content) {
      const { event_id } = await ask('PUT', `/rooms/${encoded(room_id)}/send/${type}/t${++txn}`, content)
      return String(event_id)
    },
    async setState(room_id, type, state_key, content) {
      const { event_id } = await ask('PUT', `/rooms/${encoded(room_id)}/state/${type}/${encoded(state_key)}`, content)
      return String(event_id)
    },
    say: (room_id, body) => self.send(room_id, 'm.room.message', { msgtype: 'm.text', body }),
    async join(room_id, via) {
      const query = via === undefined ? '' : `?server_name=${encoded(via)}&via=${encoded(via)}`
      await ask('POST', `/join/${encoded(room_id)}${query}`, {})
    },
    async state(room_id) {
      const events = (await ask('GET', `/rooms/${encoded(room_id)}/state`)) as unknown as SeenEvent[]
      return Object.fromEntries(events.map((event) => [`${event.type} ${event.state_key}`, event.event_id]).toSorted())
    },
    async timeline(room_id) {
      const all: SeenEvent[] = []
      let from: string | undefined
      for (;;) {
        const query = `?dir=b&limit=${pageMax}${from === undefined ? '' : `&from=${encoded(from)}`}`
        const { chunk, end } = (await ask('GET', `/rooms/${encoded(room_id)}/messages${query}`)) as unknown as {
          chunk: SeenEvent[]
          end?: string
        }
        all.push(...chunk)
        if (end === undefined || end === from) return all.reverse()
        from = end
      }
    },
    async membership(room_id) {
      const { rooms } = (await ask('GET', '/sync?timeout=0')) as { rooms?: Record<string, JsonObject> }
      return ['join', 'invite', 'knock', 'leave'].find((section) => Object.hasOwn(rooms?.[section] ?? {}, room_id))
    },
  }
  return self
}
