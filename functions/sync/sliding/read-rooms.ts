/** Reads what an answer tells of its rooms, all rooms together: from the rooms' memory where it reaches far enough, the rest
 *  in a few queries. */
import type { EventId } from '../../../shared/matrix/ids.ts'
import { type RoomSummary, type StateRow, strippedState } from '../../../shared/storage/sync-rooms.ts'
import { bumpPositions } from '../../../shared/storage/sync-sliding.ts'
import type { AnswerContext } from '../answer.ts'
import { bundlesOf } from '../bundles.ts'
import type { LiveRoom } from '../live-room.ts'
import type { EventStyle } from '../room-json.ts'
import { allSoon, type Soon, soon } from '../soon.ts'
import { summariesFor } from '../summaries.ts'
import { noFilter, type SyncFilter } from '../sync-filter.ts'
import { type RoomSection, readSections, type StateEvent } from '../timelines.ts'
import { refreshUnread } from '../unread.ts'
import type { RoomPart } from './plan-rooms.ts'
import { readMembers } from './read-members.ts'
import { readState } from './read-state.ts'

export interface Hero {
  readonly user_id: string
  readonly displayname?: string
  readonly avatar_url?: string
}

export interface ReadRoom {
  readonly part: RoomPart
  readonly section: RoomSection | undefined
  /** Changes of state, or all of it, as far as it is asked for. */
  state: StateEvent[]
  /** null: the room has none; undefined: as before. */
  name: string | null | undefined
  avatar: string | null | undefined
  /** Set where the room is new to the client, or members changed. */
  summary: RoomSummary | undefined
  heroes: readonly Hero[] | undefined
  bump: number
  stripped: readonly StateRow[] | undefined
  /** Whose member events the client has, because of what they wrote. */
  members: readonly string[]
}

export type ReadContext = Pick<AnswerContext, 'sql' | 'live' | 'user' | 'viewer' | 'now'>

export interface ReadRooms {
  readonly rooms: readonly ReadRoom[]
  readonly style: EventStyle
}

export function readRooms(context: ReadContext, parts: readonly RoomPart[], upTo: number): Soon<ReadRooms> {
  return soon(readTimelines(context, parts), (sections) => {
    const rooms = parts.map(
      (part, i): ReadRoom => ({
        part,
        section: sections[i],
        state: [],
        name: undefined,
        avatar: undefined,
        summary: undefined,
        heroes: undefined,
        bump: part.selected.membership.position,
        stripped: undefined,
        members: [],
      }),
    )
    const shown = sections.flatMap((section) => section ?? [])
    const read = allSoon([
      readState(context, rooms),
      readBumps(context, rooms),
      readStripped(context, rooms),
      refreshUnread(context.sql, context.user, rooms.flatMap(joined), upTo),
      bundlesOf(context, upTo, shown),
    ])
    return soon(read, ([, , , , relations]) => {
      const style = { viewer: context.viewer, now: context.now, fields: null, relations, federation: undefined }
      return soon(readSummaries(context, rooms), () => soon(readMembers(context, rooms), () => ({ rooms, style })))
    })
  })
}

function joined({ part }: ReadRoom) {
  const { membership } = part.selected
  const { room } = membership
  return room ? [{ membership, room }] : []
}

const filters = new Map<number, SyncFilter>()

/** Timelines of this length, and no state. */
function filterFor(limit: number): SyncFilter {
  let filter = filters.get(limit)
  if (!filter) {
    const state = { matches: () => false, passesAll: false, passesNone: true }
    filter = { ...noFilter, timelineLimit: limit, state }
    filters.set(limit, filter)
  }
  return filter
}

/** Sections of the parts, in their order. */
function readTimelines(context: ReadContext, parts: readonly RoomPart[]): Soon<(RoomSection | undefined)[]> {
  const { sql, live, user } = context
  const byLimit = new Map<number, RoomPart[]>()
  for (const part of parts) {
    if (!part.timeline) continue
    const { limit } = part.selected.config
    const known = byLimit.get(limit)
    if (known) known.push(part)
    else byLimit.set(limit, [part])
  }
  const reading = [...byLimit].map(([limit, some]) =>
    soon(
      readSections(
        { sql, live, user, filter: filterFor(limit), stateAfter: true },
        some.flatMap(({ timeline }) => timeline ?? []),
      ),
      (sections) => ({ some, sections }),
    ),
  )
  return soon(allSoon(reading), (groups) => {
    const byPart = new Map<RoomPart, RoomSection | undefined>()
    for (const { some, sections } of groups) for (const [i, part] of some.entries()) byPart.set(part, sections[i])
    return parts.map((part) => byPart.get(part))
  })
}

function readBumps({ sql }: ReadContext, rooms: readonly ReadRoom[]): Soon<void> {
  const missing: LiveRoom[] = []
  const left: ReadRoom[] = []
  for (const read of rooms) {
    const { membership } = read.part.selected
    const { room } = membership
    if (!room) continue
    if (room.bump === undefined) {
      missing.push(room)
      left.push(read)
    } else read.bump = room.bump
  }
  if (missing.length === 0) return undefined
  return bumpPositions(
    sql,
    missing.map((room) => ({ room_nid: room.room_nid, upTo: room.events })),
  ).then((found) => {
    for (const [i, room] of missing.entries()) {
      const read = left[i]
      const position = Math.max(found.get(room.room_nid) ?? 0, room.bump ?? 0)
      room.bump = position
      if (read) read.bump = position
    }
  })
}

function readStripped({ sql, user }: ReadContext, rooms: readonly ReadRoom[]): Soon<void> {
  const wanted = rooms.filter(({ part }) => !part.timeline)
  if (wanted.length === 0) return undefined
  return strippedState(
    sql,
    user.user_id,
    wanted.map(({ part }) => part.selected.membership.room_nid),
  ).then((found) => {
    for (const read of wanted) read.stripped = found.get(read.part.selected.membership.room_nid) ?? []
  })
}

function readSummaries({ sql, user }: ReadContext, rooms: readonly ReadRoom[]): Soon<void> {
  const wanted = rooms.filter((read) => read.part.selected.membership.room && (read.part.initial || membersMoved(read)))
  if (wanted.length === 0) return undefined
  const live = wanted.flatMap(({ part }) => part.selected.membership.room ?? [])
  return soon(summariesFor(sql, user.user_id, live), (summaries) => {
    for (const read of wanted) read.summary = summaries.get(read.part.selected.membership.room_nid)
  })
}

function membersMoved({ part, section, state }: ReadRoom): boolean {
  if (!section) return false
  const { after } = part
  // Of a gap nobody knows.
  if (section.limited && section.start > after) return true
  return (
    section.events.some(({ event }) => event.type === 'm.room.member' && event.position > after) ||
    state.some((event) => event.type === 'm.room.member' && event.position > after)
  )
}

/** Ids of the events that the client is shown of a room. */
export function shownEvents({ section }: ReadRoom): EventId[] {
  return section?.events.map(({ event }) => event.event_id) ?? []
}
