/** Events of one room as JSON for who asked. */

import type { Requester } from '../../../shared/auth/requester.ts'
import { RawJson } from '../../../shared/http/route.ts'
import { bundledRelations } from '../../../shared/timeline/bundled-relations.ts'
import { clientEventJson } from '../../../shared/timeline/client-json.ts'
import {
  createRoomReader,
  type RoomReader,
  type RoomView,
  type SeenEvent,
} from '../../../shared/timeline/room-reader.ts'
import type { TimelineEvent } from '../../../shared/timeline/timeline-event.ts'
import type { ClientDeps } from '../deps.ts'

const readers = new WeakMap<object, RoomReader>()

/** The one reader that belongs to these dependencies: it keeps what it learnt between requests. */
export function readerOf(deps: ClientDeps): RoomReader {
  const known = readers.get(deps.replication)
  if (known) return known
  const made = createRoomReader(deps)
  readers.set(deps.replication, made)
  return made
}

/** JSON of each event, with its bundled aggregations. */
export async function eventsJson(
  deps: ClientDeps,
  view: RoomView,
  seen: readonly SeenEvent[],
  user: Requester,
): Promise<string[]> {
  if (seen.length === 0) return []
  const reader = readerOf(deps)
  const now = deps.clock.now()
  const relations = await bundledRelations(
    seen.map((one) => one.event),
    {
      sql: deps.sql,
      room: view,
      viewer: user,
      now,
      roomId: true,
      upTo: view.upTo,
      ignored: await reader.ignoredUsers(user.user_id),
      seesAll: await reader.seesAll(view),
      seen: (events) => reader.seen(view, events),
    },
  )
  return seen.map(({ event, membership }) =>
    clientEventJson(event, user, { now, roomId: true, membership, relations: relations.get(event.event_id) }),
  )
}

/** JSON of each state event; the state is the room's, so no aggregations and no membership of the viewer's. */
export function stateJson(deps: ClientDeps, events: readonly TimelineEvent[], user: Requester): string[] {
  const now = deps.clock.now()
  return events.map((event) => clientEventJson(event, user, { now, roomId: true }))
}

/** `open`, the events with commas between them, `close`: sent as they are read. */
export function eventList(
  deps: ClientDeps,
  user: Requester,
  { open, close }: { readonly open: string; readonly close: string },
  pages: AsyncIterable<readonly TimelineEvent[]>,
): RawJson {
  return new RawJson(
    (async function* () {
      let before = open
      for await (const page of pages) {
        if (page.length === 0) continue
        yield before + stateJson(deps, page, user).join(',')
        before = ','
      }
      yield before === open ? open + close : close
    })(),
  )
}
