/** The newest events of rooms, where all handlers find them: one that holds nothing of a room yet need not ask Postgres for
 *  what another has just read. The name of an entry says which event is the room's last, so an entry never becomes wrong. */
import * as v from 'valibot'
import { type CacheSlot, cachedValue } from '../../shared/replication/shared-cache.ts'
import { EventRow } from '../../shared/streams/events.ts'
import type { Live } from './live.ts'
import type { LiveRoom } from './live-room.ts'
import type { TimelinePart } from './plan.ts'

const SharedTimeline = v.object({
  /** Every event of the room after this position. */
  from: v.number(),
  events: v.array(
    v.object({
      ...EventRow.entries,
      redacted_because: v.exactOptional(v.string()),
      state_root: v.exactOptional(v.number()),
      has_children: v.exactOptional(v.boolean()),
    }),
  ),
})

/** One for each part; undefined where there is nothing to look for. */
export function lookForTimelines(
  live: Live,
  parts: readonly TimelinePart[],
): Promise<readonly CacheSlot[]> | undefined {
  if (!live.shared || !parts.some(({ room }) => isCold(room))) return undefined
  return live.shared.lookAll(
    parts.map(({ membership, room }) => ({
      name: nameOf(membership.room_nid, room?.events ?? 0),
      marks: [`room:${membership.room_id}`],
    })),
  )
}

function nameOf(room_nid: number, last: number): string {
  return `timeline:${room_nid}:${last}`
}

function isCold(room: LiveRoom | undefined): room is LiveRoom {
  return room !== undefined && room.timeline.length === 0 && room.events > 0
}

/** Puts what was found into the room's memory; false where nothing was, or where the room has moved on since. */
export function takeTimeline(live: Live, { room }: TimelinePart, slot: CacheSlot | undefined): boolean {
  if (!isCold(room)) return false
  const found = cachedValue(slot, SharedTimeline)
  if (!found || found.events.at(-1)?.position !== room.events) return false
  const before = room.bytes
  room.prepend(found.events, found.from)
  live.touch(room, before)
  return true
}

/** Of what is in the room's memory now, for the next handler that knows nothing of it. */
export function shareTimeline({ room }: TimelinePart, slot: CacheSlot | undefined): void {
  if (!room || !slot || slot.value !== undefined) return
  const { timeline, timelineFrom } = room
  const last = timeline.at(-1)?.event
  if (!last || slot.name !== nameOf(room.room_nid, last.position)) return
  slot.put(JSON.stringify({ from: timelineFrom, events: timeline.map(({ event }) => event) }))
}
