/** Wakes who waits: all that is published in one turn of the event loop wakes once. */
import type { LiveRoom } from './live-room.ts'
import type { LiveUser } from './live-user.ts'

export class Wakes {
  private users = new Set<LiveUser>()

  user(user: LiveUser): void {
    if (user.waiters.size === 0) return
    if (this.users.size === 0) setImmediate(() => this.run())
    this.users.add(user)
  }

  room(room: LiveRoom): void {
    for (const user of room.users) this.user(user)
  }

  private run(): void {
    const { users } = this
    this.users = new Set()
    for (const user of users) user.wake()
  }
}
