/** Following threads. https://github.com/matrix-org/matrix-spec-proposals/pull/4306 */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { EventId, RoomId, UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { KeyedQueue } from '../../keyed-queue.ts'
import type { Committer } from '../../persist/writes.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly queue: KeyedQueue
}

interface Thread {
  readonly user_id: UserId
  readonly room_id: RoomId
  readonly root_event_id: EventId
}

/** What the user had before: nothing, a subscription, or the end of one. */
interface Held {
  readonly room_nid: number
  /** Where stream events stands. */
  readonly now: number
  readonly subscribed: boolean | null
  readonly automatic: boolean | null
  readonly unsubscribed_at: number | null
}

export function threadSubscriptionHandlers(
  deps: Deps,
): Pick<MainClient, 'subscribeToThread' | 'unsubscribeFromThread'> {
  const { sql, committer, queue } = deps

  async function held({ user_id, room_id, root_event_id }: Thread): Promise<Held> {
    const [row] = await sql<Held[]>`
      select r.room_nid, s.position as now, t.subscribed, t.automatic, t.unsubscribed_at
      from rooms r join streams s on s.name = 'events'
      left join thread_subscriptions t
        on t.room_nid = r.room_nid and t.user_id = ${user_id} and t.root_event_id = ${root_event_id}
      where r.room_id = ${room_id}`
    if (!row) throw new MatrixError('M_NOT_FOUND', 'This server knows no such room')
    return row
  }

  // One at a time a user: what is asked for is compared with what is there.
  return {
    subscribeToThread: ({ cause, ...thread }) =>
      queue.run(`${thread.user_id} threads`, async () => {
        const { room_nid, subscribed, automatic, unsubscribed_at } = await held(thread)
        const byItself = cause !== undefined
        // What the user asked for stands; a client's own subscription gives way to that alone.
        if (subscribed && (!automatic || byItself)) return {}
        if (byItself && unsubscribed_at !== null && cause <= unsubscribed_at) {
          throw new MatrixError(
            'IO.ELEMENT.MSC4306.M_CONFLICTING_UNSUBSCRIPTION',
            'The user has ceased to follow the thread since that event',
          )
        }
        const change = { ...thread, room_nid, subscribed: true, automatic: byItself, unsubscribed_at: null }
        await committer.commit({ thread_subscriptions: [change] })
        return {}
      }),
    unsubscribeFromThread: (thread) =>
      queue.run(`${thread.user_id} threads`, async () => {
        const { room_nid, subscribed, now } = await held(thread)
        if (!subscribed) return {}
        const change = { ...thread, room_nid, subscribed: false, automatic: false, unsubscribed_at: now }
        await committer.commit({ thread_subscriptions: [change] })
        return {}
      }),
  }
}
