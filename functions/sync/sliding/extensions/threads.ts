/** MSC4360: threads that were replied to, as far as the answer's timelines do not show it.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/4360 */
import { eventsByIds } from '../../../../shared/storage/events.ts'
import { type UpdatedThread, updatedThreads } from '../../../../shared/storage/sync-sliding.ts'
import { encodePaginationToken } from '../../../../shared/streams/token.ts'
import { clientEventJson } from '../../../../shared/timeline/client-json.ts'
import { bundlesOf } from '../../bundles.ts'
import type { RoomSection } from '../../timelines.ts'
import type { ExtensionRequests } from '../request.ts'
import type { Extension, ExtensionAnswer, ExtensionContext } from './extension.ts'

const limitMax = 100

type ThreadsRequest = NonNullable<ExtensionRequests['threads']>

export const threadsExtension: Extension<ThreadsRequest> = (context, config) => {
  const { since, upTo } = context
  if (since && since.events === upTo.events) return undefined
  return readThreads(context, config)
}

async function readThreads(
  context: ExtensionContext,
  { include_roots, limit }: ThreadsRequest,
): Promise<ExtensionAnswer | undefined> {
  const { answer, since, upTo, shown } = context
  const rooms = []
  for (const { room, room_nid, joinedAt } of answer.user.rooms.values()) {
    if (!room || (since && room.events <= since.events)) continue
    const after = Math.max(since?.events ?? 0, joinedAt)
    rooms.push({ room_nid, after, shownFrom: shown.get(room_nid)?.from ?? upTo.events })
  }
  const most = Math.min(limit ?? limitMax, limitMax)
  // One more tells whether there are any further.
  const found = await updatedThreads(answer.sql, rooms, upTo.events, { limit: most + 1, onlyUnseen: !include_roots })
  const threads = found.slice(0, most)
  if (threads.length === 0) return undefined
  const roots = include_roots ? await rootsJson(context, threads) : new Map<string, string>()
  const byRoom = new Map<string, string[]>()
  for (const { room_id, root_event_id, previous_position } of threads) {
    const root = roots.get(root_event_id)
    const fields = [
      ...(root === undefined ? [] : [`"thread_root":${root}`]),
      ...(previous_position === null ? [] : [`"prev_batch":"${encodePaginationToken(previous_position)}"`]),
    ]
    const list = byRoom.get(room_id) ?? []
    byRoom.set(room_id, [...list, `${JSON.stringify(root_event_id)}:{${fields.join(',')}}`])
  }
  const updates = [...byRoom].map(([room_id, list]) => `${JSON.stringify(room_id)}:{${list.join(',')}}`)
  const first = found[most]
  const further = first ? `,"prev_batch":"${encodePaginationToken(first.latest_position)}"` : ''
  return { json: `{"updates":{${updates.join(',')}}${further}}`, news: true }
}

/** Root events with their threads bundled, by id. */
async function rootsJson(
  { answer, upTo }: ExtensionContext,
  threads: readonly UpdatedThread[],
): Promise<Map<string, string>> {
  const { sql, user, viewer, now } = answer
  const events = await eventsByIds(
    sql,
    threads.map((thread) => thread.root_event_id),
  )
  const byRoom = new Map<number, RoomSection>()
  for (const event of events) {
    const membership = user.rooms.get(event.room_nid)
    if (!membership?.room || event.position < membership.joinedAt) continue
    const known = byRoom.get(event.room_nid)
    if (known) known.events = [...known.events, { event }]
    else {
      const part = {
        membership: { ...membership },
        room: membership.room,
        after: 0,
        upTo: upTo.events,
        fullState: false,
        fresh: true,
        newly: false,
        ownEventOnly: false,
      }
      const section = { limited: true, start: 0, state: [], changes: undefined, cached: undefined }
      byRoom.set(event.room_nid, { part, events: [{ event }], ...section })
    }
  }
  const sections = [...byRoom.values()]
  const relations = await bundlesOf(answer, upTo.events, sections)
  const json = new Map<string, string>()
  for (const { events: some } of sections) {
    for (const { event } of some) {
      const options = { now, roomId: false, membership: 'join', relations: relations.get(event.event_id) }
      json.set(event.event_id, clientEventJson(event, viewer, options))
    }
  }
  return json
}
