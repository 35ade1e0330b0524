/** The rooms in memory, least recently used first, within a budget of bytes. A room in use is never evicted. */
import type { RoomId } from '../../../shared/matrix/ids.ts'
import { cacheTally } from '../../../shared/metrics/tallies.ts'
import { type Room, roomBytes } from './room.ts'

/** The estimate is renewed after so many uses: it costs a walk over the state. */
const usesPerEstimate = 64

export interface WarmRooms {
  /** The room, held until `release`; loaded if need be, and stale if it was recycled meanwhile. undefined: unknown here. Only
   *  one caller at a time a room, until it is recycled. */
  acquire(room_id: RoomId): Promise<Room | undefined>
  /** Takes a room that was made in memory. */
  adopt(room: Room): void
  release(room: Room): void
  /** `room.commits` was raised when the commit was handed over; this lowers it. */
  commitEnded(room: Room): void
  /** Resolves when no commit of this copy is in flight. */
  drained(room: Room): Promise<void>
  /** The copy is no longer the room: who comes next loads it anew, once the commits of this copy are decided. */
  recycle(room: Room): void
  recycleById(room_id: RoomId): void
  /** Forgets all rooms for which `isOthers` says so: somebody else writes them, or has written them. */
  drop(isOthers: (room_id: RoomId) => boolean): void
  readonly size: number
  readonly bytes: number
}

interface Held {
  readonly room: Room
  bytes: number
  uses: number
}

export function createWarmRooms(deps: {
  readonly bytesMax: number
  readonly load: (room_id: RoomId) => Promise<Room | undefined>
}): WarmRooms {
  const { bytesMax, load } = deps
  const rooms = new Map<RoomId, Held>()
  /** Recycled copies that still have commits in flight. */
  const leaving = new Set<Room>()
  /** Who waits for a copy's commits to be decided. */
  const waiting = new Map<Room, (() => void)[]>()
  /** Rooms that are being read, and whether what comes of it is wanted still. */
  const loading = new Map<RoomId, { stale: boolean }>()
  let bytes = 0
  const tally = cacheTally('warm_rooms_bytes')
  tally.size = () => bytes

  function drop(held: Held): void {
    if (rooms.get(held.room.room_id) !== held) return
    rooms.delete(held.room.room_id)
    bytes -= held.bytes
  }
  function hold(room: Room): Held {
    const held = { room, bytes: roomBytes(room), uses: 0 }
    rooms.set(room.room_id, held)
    bytes += held.bytes
    return held
  }
  function evict(): void {
    if (bytes <= bytesMax) return
    for (const held of rooms.values()) {
      if (held.room.tasks > 0 || held.room.commits > 0) continue
      drop(held)
      if (bytes <= bytesMax) return
    }
  }
  async function settled(room_id: RoomId): Promise<void> {
    for (const room of leaving) if (room.room_id === room_id) await drained(room)
  }
  async function drained(room: Room): Promise<void> {
    if (room.commits === 0) return
    await new Promise<void>((resolve) => waiting.set(room, [...(waiting.get(room) ?? []), resolve]))
  }
  function recycle(room: Room): void {
    room.stale = true
    const held = rooms.get(room.room_id)
    if (held?.room === room) drop(held)
    if (room.commits > 0) leaving.add(room)
  }

  return {
    async acquire(room_id) {
      let held = rooms.get(room_id)
      if (held) {
        rooms.delete(room_id)
        rooms.set(room_id, held)
        tally.hits++
      } else {
        tally.misses++
        const reading = { stale: false }
        loading.set(room_id, reading)
        let room: Room | undefined
        try {
          await settled(room_id)
          room = await load(room_id)
        } finally {
          if (loading.get(room_id) === reading) loading.delete(room_id)
        }
        if (!room) return undefined
        if (reading.stale) {
          // Whoever came next read it too, and may have written since.
          room.stale = true
          room.tasks++
          return room
        }
        held = hold(room)
      }
      held.room.tasks++
      if (++held.uses % usesPerEstimate === 0) {
        bytes -= held.bytes
        held.bytes = roomBytes(held.room)
        bytes += held.bytes
      }
      evict()
      return held.room
    },
    adopt(room) {
      hold(room)
      evict()
    },
    release(room) {
      room.tasks--
    },
    commitEnded(room) {
      if (--room.commits > 0) return
      leaving.delete(room)
      const resumes = waiting.get(room)
      waiting.delete(room)
      for (const resume of resumes ?? []) resume()
    },
    drained,
    recycle,
    recycleById(room_id) {
      const held = rooms.get(room_id)
      if (held) recycle(held.room)
      const reading = loading.get(room_id)
      if (reading) reading.stale = true
      loading.delete(room_id)
    },
    drop(isOthers) {
      for (const [room_id, held] of rooms) if (isOthers(room_id)) recycle(held.room)
      for (const [room_id, reading] of loading) if (isOthers(room_id)) reading.stale = true
    },
    get size() {
      return rooms.size
    },
    get bytes() {
      return bytes
    },
  }
}
