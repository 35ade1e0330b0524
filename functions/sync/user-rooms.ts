/** The rooms of users who are asked about and have no entry here: read once, then kept up by their member events. */
import { LRUCache } from 'lru-cache'
import { entriesUpTo } from '../../shared/lru-bound.ts'
import type { UserId } from '../../shared/matrix/ids.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import { joinedRoomsOf } from '../../shared/storage/sync-rooms.ts'

const usersMax = 5_000

interface Reading {
  readonly done: Promise<void>
  /** Changes of membership that came while it was read. */
  readonly changes: { readonly room_nid: number; readonly joined: boolean }[]
}

export class UserRooms {
  private readonly sql: ReadSql
  private readonly rooms = new LRUCache<UserId, Set<number>>({ ...entriesUpTo(usersMax) })
  private readonly reading = new Map<UserId, Reading>()

  constructor(sql: ReadSql) {
    this.sql = sql
  }

  /** Undefined where they are not known. */
  of(user: UserId): ReadonlySet<number> | undefined {
    return this.rooms.get(user)
  }

  /** Resolves when the rooms of these users were read; undefined where they are known. To be asked for a few users: what
   *  does not fit is forgotten. */
  read(users: readonly UserId[]): Promise<void> | undefined {
    const waited = new Set<Promise<void>>()
    const wanted: UserId[] = []
    for (const user of users) {
      if (this.rooms.has(user)) continue
      const reading = this.reading.get(user)
      if (reading) waited.add(reading.done)
      else wanted.push(user)
    }
    if (wanted.length > 0) waited.add(this.start(wanted))
    return waited.size === 0 ? undefined : Promise.all(waited).then(() => undefined)
  }

  private start(users: readonly UserId[]): Promise<void> {
    const changes = new Map<UserId, Reading['changes']>(users.map((user) => [user, []]))
    const done = joinedRoomsOf(this.sql, users)
      .then((found) => {
        for (const user of users) {
          // Forgotten meanwhile: what was read may be out of date.
          if (this.reading.get(user)?.done !== done) continue
          const joined = new Set(found.get(user))
          for (const change of changes.get(user) ?? []) apply(joined, change)
          this.rooms.set(user, joined)
        }
      })
      .finally(() => {
        for (const user of users) if (this.reading.get(user)?.done === done) this.reading.delete(user)
      })
    for (const [user, list] of changes) this.reading.set(user, { done, changes: list })
    return done
  }

  memberChanged(member: { readonly user_id: UserId; readonly membership: string }, room_nid: number): void {
    const change = { room_nid, joined: member.membership === 'join' }
    this.reading.get(member.user_id)?.changes.push(change)
    const rooms = this.rooms.peek(member.user_id)
    if (rooms) apply(rooms, change)
  }

  /** Memberships changed without events. */
  forget(): void {
    this.rooms.clear()
    this.reading.clear()
  }
}

function apply(rooms: Set<number>, { room_nid, joined }: { room_nid: number; joined: boolean }): void {
  if (joined) rooms.add(room_nid)
  else rooms.delete(room_nid)
}
