/** What tests of sliding sync do over and over. */
import type { RoomId, UserId } from '../../shared/matrix/ids.ts'
import type { SyncAnswer, SyncFixture } from './sync-fixture.ts'

let users = 0
let rooms = 0

/** A user of their own for a test. */
export const user = (name: string) => `@${name}${++users}:test` as UserId

export const all = { timeline_limit: 10, required_state: [] as string[][], ranges: [[0, 99]] }
/** A body with one list of all rooms. */
export const list = (more: object = {}) => ({ lists: { all: { ...all, ...more } } })
export const bodies = (room: SyncAnswer) => room.timeline?.map((e: { content: { body?: string } }) => e.content.body)
export const keys = (events: { type: string; state_key?: string }[] = []) =>
  events.map((e) => `${e.type}/${e.state_key}`).sort()

export function slidingSteps(server: () => SyncFixture) {
  async function created(creator: UserId, content: object = {}): Promise<RoomId> {
    const id = await server().room(`!sliding${++rooms}`)
    await server().send({ room: id, type: 'm.room.create', state_key: '', sender: creator, content })
    await server().member(id, creator, 'join')
    return id
  }
  return {
    /** A room with its creator joined. */
    created,
    /** One after the other: the fixture is a main with one writer. */
    async severalBy(creator: UserId, contents: readonly object[]): Promise<RoomId[]> {
      const ids: RoomId[] = []
      for (const content of contents) ids.push(await created(creator, content))
      return ids
    },
    state: (room: RoomId, sender: UserId, type: string, content: object, state_key = '') =>
      server().send({ room, type, state_key, sender, content }),
    next: (who: UserId, last: SyncAnswer, body: object = list()) => server().sliding(who, { ...body, pos: last.pos }),
  }
}
