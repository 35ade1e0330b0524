/** Deactivated users leave all their rooms, which takes as many commits as there are rooms. Who has not left all is in the
 *  table `departures`, so that a main that ends in the middle leaves the rest to the next. */
import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

const retryMs = 10_000

export interface Departures {
  /** Resolves when the user has left all rooms. Rejects where a room can't be written now; it is tried again later. */
  depart(user_id: UserId): Promise<void>
  /** Goes on with what is left over of the users that are this process's. */
  resume(): void
  /** Begins nothing more, and waits for what is under way. */
  close(): Promise<void>
}

export interface DeparturesDeps {
  readonly sql: MainSql
  readonly clock: Clock
  readonly changeMembership: MainClient['changeMembership']
  /** Runs the work while the user is this process's; undefined: another's. */
  readonly asOwner: (user_id: UserId, work: () => Promise<void>) => Promise<void> | undefined
  readonly onError: (error: unknown) => void
}

export function createDepartures(deps: DeparturesDeps): Departures {
  const { sql, clock, changeMembership, asOwner, onError } = deps
  const underWay = new Map<UserId, Promise<void>>()
  let closed = false
  let cancel = () => {}
  let resuming: Promise<void> | undefined

  /** Leaves, rejects or takes back all joins, invites and knocks. A room that refuses stops no other. */
  async function leaveAllRooms(user_id: UserId): Promise<void> {
    const held = await sql<{ room_id: RoomId }[]>`
      select r.room_id from memberships m join rooms r using (room_nid)
      where m.user_id = ${user_id} and m.membership in ('join', 'invite', 'knock')`
    let unavailable: MatrixError | undefined
    for (const { room_id } of held) {
      try {
        await changeMembership({ room_id, user_id, target: user_id, action: 'leave' })
      } catch (error) {
        if (!(error instanceof MatrixError)) throw error
        if (error.errcode === 'M_UNAVAILABLE') unavailable = error
      }
    }
    if (unavailable) throw unavailable
    await sql`delete from departures where user_id = ${user_id}`
  }

  function depart(user_id: UserId): Promise<void> {
    let leaving = underWay.get(user_id)
    if (!leaving) {
      leaving = leaveAllRooms(user_id)
        .catch((error: unknown) => {
          later()
          throw error
        })
        .finally(() => underWay.delete(user_id))
      underWay.set(user_id, leaving)
    }
    return leaving
  }

  function later(): void {
    cancel()
    if (!closed) cancel = clock.after(retryMs, resume)
  }

  async function look(): Promise<void> {
    const waiting = await sql<{ user_id: UserId }[]>`select user_id from departures order by created_ts`
    for (const { user_id } of waiting) {
      if (closed) return
      await asOwner(user_id, () => depart(user_id))
    }
  }

  function resume(): void {
    if (closed) return
    if (resuming) {
      later()
      return
    }
    resuming = look()
      .catch((error: unknown) => {
        if (!closed) onError(error)
        later()
      })
      .finally(() => {
        resuming = undefined
      })
  }

  return {
    depart,
    resume,
    async close() {
      closed = true
      cancel()
      await resuming
    },
  }
}
