/** Wakes who waits: all that is published in one turn of the event loop wakes once. Few at a time, so that between them
 *  answers are written, and requests taken, of clients that wait for something else. */
import { tallies } from '../../shared/metrics/tallies.ts'
import type { LiveRoom } from './live-room.ts'
import type { LiveUser } from './live-user.ts'

/** Their answers take a few milliseconds. */
const atOnce = 64

export class Wakes {
  private readonly users = new Set<LiveUser>()
  /** When the first of them was to be woken. */
  private since = 0

  user(user: LiveUser): void {
    if (user.waiters.size === 0) return
    if (this.users.size === 0) {
      this.since = performance.now()
      setImmediate(() => this.run())
    }
    this.users.add(user)
  }

  room(room: LiveRoom): void {
    for (const user of room.users) this.user(user)
  }

  private run(): void {
    let woken = 0
    for (const user of this.users) {
      if (woken++ === atOnce) {
        setImmediate(() => this.run())
        return
      }
      this.users.delete(user)
      user.wake()
    }
    tallies.lag.note(performance.now() - this.since)
  }
}
