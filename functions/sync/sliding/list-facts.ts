/** What the filters of a request's lists look at, brought into memory before lists are made: then they are made at once, at
 *  one position. */
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { forgottenRooms } from '../../../shared/storage/sync-members.ts'
import { type RoomFacts, roomFacts, spaceChildren } from '../../../shared/storage/sync-sliding.ts'
import type { StreamPositions } from '../../../shared/streams/registry.ts'
import type { LiveUser, UserRoom } from '../live-user.ts'
import { type Soon, soon } from '../soon.ts'
import type { ListFilters, SlidingRequest } from './request.ts'
import { labelsOf, type RoomLabels } from './room-labels.ts'
import { roomsByActivity } from './room-order.ts'

export interface ListFacts {
  readonly labels: RoomLabels
  /** Rooms that the user was sent out of and has forgotten. */
  readonly forgotten: ReadonlySet<number>
  /** Ids of rooms in each space that a filter names. */
  readonly children: ReadonlyMap<string, ReadonlySet<string>>
}

/** Of rooms that the user is invited to, say: as they were when the membership was first looked at. */
const factsOutside = new WeakMap<UserRoom, RoomFacts>()
/** Children by space, as of the space's last event. */
const childrenOf = new WeakMap<object, { readonly at: number; readonly rooms: ReadonlySet<string> }>()
const none: ReadonlySet<string> = new Set()
const nothingForgotten: ReadonlySet<number> = new Set()

/** Undefined where the room is not known; call `listFacts` before. */
export function factsOf(room: UserRoom): RoomFacts | undefined {
  return room.room?.facts ?? factsOutside.get(room)
}

/** At the present positions of the streams. A promise where something has to be read; when it is there, ask again, until nothing has. */
export function listFacts(
  sql: ReadSql,
  user: LiveUser,
  { lists }: Pick<SlidingRequest, 'lists'>,
  at: Pick<StreamPositions, 'events' | 'invalidations'>,
): ListFacts | Promise<unknown> {
  const labels = labelsOf(sql, user)
  const missing = lists.some(({ filters }) => filters && looksAtFacts(filters)) ? withoutFacts(user) : []
  const facts = missing.length > 0 ? readFacts(sql, missing) : undefined
  const spaces = childrenIn(sql, user, lists)
  const forgotten = forgottenAmong(sql, user, at)
  for (const part of [labels, facts, spaces, forgotten]) {
    if (part instanceof Promise) return Promise.all([labels, facts, spaces, forgotten])
  }
  return {
    labels: labels as RoomLabels,
    children: spaces as ListFacts['children'],
    forgotten: forgotten as ListFacts['forgotten'],
  }
}

function looksAtFacts(filters: ListFilters): boolean {
  return (
    (filters.is_encrypted ?? filters.room_types ?? filters.not_room_types ?? filters.room_name_like ?? undefined) !==
    undefined
  )
}

function withoutFacts(user: LiveUser): UserRoom[] {
  const missing: UserRoom[] = []
  for (const room of user.rooms.values()) if (!factsOf(room)) missing.push(room)
  return missing
}

async function readFacts(sql: ReadSql, rooms: readonly UserRoom[]): Promise<void> {
  const before = rooms.map(({ room }) => room?.events)
  const found = await roomFacts(
    sql,
    rooms.map((room) => room.room_nid),
  )
  const byRoom = new Map(found.map((facts) => [facts.room_nid, facts]))
  for (const [i, membership] of rooms.entries()) {
    const { room, room_nid } = membership
    const facts = byRoom.get(room_nid) ?? { room_nid, room_type: null, encrypted: false, name: null }
    if (!room) factsOutside.set(membership, facts)
    // What changed while it was read is read again.
    else if (room.events === before[i]) room.facts = facts
  }
}

function childrenIn(sql: ReadSql, user: LiveUser, lists: SlidingRequest['lists']): Soon<ListFacts['children']> {
  const named = new Set(lists.flatMap(({ filters }) => filters?.spaces ?? []))
  const children = new Map<string, ReadonlySet<string>>()
  if (named.size === 0) return children
  const missing: UserRoom[] = []
  for (const membership of user.rooms.values()) {
    const { room, room_id } = membership
    if (!room || !named.has(room_id)) continue
    const known = childrenOf.get(room)
    children.set(room_id, known?.rooms ?? none)
    if (known?.at !== room.events) missing.push(membership)
  }
  if (missing.length === 0) return children
  const before = missing.map(({ room }) => room?.events ?? 0)
  return soon(
    spaceChildren(
      sql,
      missing.map((space) => space.room_nid),
    ),
    (found) => {
      for (const [i, { room, room_nid }] of missing.entries()) {
        if (room) childrenOf.set(room, { at: before[i] ?? 0, rooms: new Set(found.get(room_nid)) })
      }
      return children
    },
  )
}

interface Forgotten {
  readonly newest: number
  readonly invalidations: number
  readonly rooms: ReadonlySet<number>
}
const forgottenBy = new WeakMap<LiveUser, Forgotten>()

/** Asked for by users alone who were put out of a room or left one. Forgetting is told in stream invalidations. */
function forgottenAmong(
  sql: ReadSql,
  user: LiveUser,
  { events, invalidations }: Pick<StreamPositions, 'events' | 'invalidations'>,
): Soon<ReadonlySet<number>> {
  let newest = 0
  for (const { membership, position, leftAt } of roomsByActivity(user, events).outside) {
    if (membership !== 'invite' && leftAt > 0 && position > newest) newest = position
  }
  if (newest === 0) return nothingForgotten
  const known = forgottenBy.get(user)
  if (known?.newest === newest && known.invalidations === invalidations) return known.rooms
  return forgottenRooms(sql, user.user_id).then((rooms) => {
    forgottenBy.set(user, { newest, invalidations, rooms })
    return rooms
  })
}
