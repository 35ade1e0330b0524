/** Holds what rooms keep ready within a budget: the rooms used longest ago give their memory back first. */
import type { LiveRoom } from './live-room.ts'

export class RoomMemory {
  private readonly bytesMax: number
  /** Least recently used first. */
  private readonly held = new Set<LiveRoom>()
  private bytes = 0

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax
  }

  /** What the room holds was used or changed; `before` is what it weighed. */
  touch(room: LiveRoom, before = room.bytes): void {
    this.bytes += room.bytes - (this.held.delete(room) ? before : 0)
    this.held.add(room)
    for (const oldest of this.held) {
      if (this.bytes <= this.bytesMax) return
      this.drop(oldest)
      oldest.forget()
    }
  }

  /** The room's memory is no longer counted. */
  drop(room: LiveRoom): void {
    if (this.held.delete(room)) this.bytes -= room.bytes
  }

  /** In bytes. */
  get size(): number {
    return this.bytes
  }

  rooms(): Iterable<LiveRoom> {
    return this.held
  }
}
