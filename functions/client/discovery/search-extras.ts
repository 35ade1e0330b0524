/** What a search's answer holds beside its results: their groups, and the state of their rooms. */
import type { Requester } from '../../../shared/auth/requester.ts'
import type { ClientDeps } from '../deps.ts'
import { stateJson } from '../read/rendering.ts'
import { stateOf } from '../read/state-of-view.ts'
import type { Match } from './search-matches.ts'

export type GroupKey = 'room_id' | 'sender'

/** Pages of state that one room adds to an answer. */
const statePagesMax = 5

interface Group {
  readonly results: string[]
  readonly order: number
  next_batch?: string
}

/** JSON of the key `groups`. `tokenIn` gives the token of a room's further results; undefined: there are none. */
export function groupsJson(
  matches: readonly Match[],
  keys: readonly GroupKey[],
  tokenIn: (room_nid: number) => string | undefined,
): string {
  const groups: Record<string, Record<string, Group>> = {}
  for (const key of keys) {
    const of = new Map<string, Group>()
    for (const [i, { seen, view }] of matches.entries()) {
      const name = seen.event[key]
      const group = of.get(name) ?? { results: [], order: i }
      of.set(name, group)
      group.results.push(seen.event.event_id)
      const token = key === 'room_id' ? tokenIn(view.room_nid) : undefined
      if (token) group.next_batch = token
    }
    groups[key] = Object.fromEntries(of)
  }
  return JSON.stringify(groups)
}

/** The key `state` with what comes before it: of each room that has a result the state that the user may see. */
export async function* roomStates(
  deps: ClientDeps,
  user: Requester,
  matches: readonly Match[],
): AsyncGenerator<string> {
  const views = new Map(matches.map(({ view }) => [view.room_id, view]))
  let open = ',"state":{'
  for (const [room_id, view] of views) {
    yield `${open}${JSON.stringify(room_id)}:[`
    open = ','
    let pages = 0
    let before = ''
    for await (const events of stateOf(deps.sql, view, { root: view.stateRoot })) {
      if (events.length > 0) yield before + stateJson(deps, events, user).join(',')
      before = ','
      if (++pages === statePagesMax) break
    }
    yield ']'
  }
  yield views.size > 0 ? '}' : ',"state":{}'
}
