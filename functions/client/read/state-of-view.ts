/** The state that a viewer may see: the present one, or that of when the viewer's stay in the room ended. */
import {
  currentMembers,
  currentState,
  currentStateEvent,
  currentStateWithMembers,
} from '../../../shared/storage/current-state.ts'
import { eventsByNids } from '../../../shared/storage/events.ts'
import { presentStateRoot } from '../../../shared/storage/rooms.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { stateAt, stateMapAt } from '../../../shared/storage/state.ts'
import type { RoomView } from '../../../shared/timeline/room-reader.ts'
import type { TimelineEvent } from '../../../shared/timeline/timeline-event.ts'

const pageEvents = 1000
const memberKeys = 'm.room.member\0'

export interface StatePart {
  /** undefined: the present state. */
  readonly root: number | undefined
  /** The member events alone. */
  readonly only?: 'm.room.member'
  /** Of member events, those of these users; everything else stays. */
  readonly members?: ReadonlySet<string> | undefined
}

/** The state's events, in pages. */
export async function* stateOf(
  sql: ReadSql,
  view: RoomView,
  { root, only, members }: StatePart,
): AsyncGenerator<readonly TimelineEvent[]> {
  const present = root === undefined || root === (await presentStateRoot(sql, view.room_nid))
  if (present && members) {
    yield await currentStateWithMembers(sql, view, [...members])
    return
  }
  if (present) {
    yield* currentState(sql, view, only)
    return
  }
  const nids: number[] = []
  for (const [key, nid] of await stateMapAt(sql, root)) {
    const member = key.startsWith(memberKeys) ? key.slice(memberKeys.length) : undefined
    if (member === undefined ? only === undefined : !members || members.has(member)) nids.push(nid)
  }
  for (let i = 0; i < nids.length; i += pageEvents) yield await eventsByNids(sql, view, nids.slice(i, i + pageEvents))
}

/** The event under one key; undefined: there is none. */
export async function stateEventOf(
  sql: ReadSql,
  view: RoomView,
  type: string,
  stateKey: string,
): Promise<TimelineEvent | undefined> {
  if (view.stateRoot === undefined) return currentStateEvent(sql, view, type, stateKey)
  const [nid] = await stateAt(sql, view.stateRoot, [[type, stateKey]])
  return nid === undefined ? undefined : (await eventsByNids(sql, view, [nid]))[0]
}

/** Member events of these users in the state `root`. */
export async function membersOf(
  sql: ReadSql,
  view: RoomView,
  root: number | undefined,
  users: readonly string[],
): Promise<TimelineEvent[]> {
  if (users.length === 0) return []
  if (root === undefined) return currentMembers(sql, view, users)
  const nids = await stateAt(
    sql,
    root,
    users.map((user) => ['m.room.member', user] as const),
  )
  return eventsByNids(
    sql,
    view,
    nids.filter((nid) => nid !== undefined),
  )
}
