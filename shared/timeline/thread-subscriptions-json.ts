/** Changes of thread subscriptions as clients get them, in sliding sync and in pages.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/4308 */
import type { ChangedSubscription } from '../storage/thread-subscriptions.ts'

type Threads = Record<string, Record<string, { readonly bump_stamp: number; readonly automatic?: boolean }>>

export interface ChangedThreads {
  subscribed?: Threads
  unsubscribed?: Threads
}

/** By room and by the thread's root; what there is none of is left out. */
export function changedThreads(changes: readonly ChangedSubscription[]): ChangedThreads {
  const found: ChangedThreads = {}
  for (const { room_id, root_event_id, position: bump_stamp, subscribed, automatic } of changes) {
    const kind = subscribed ? 'subscribed' : 'unsubscribed'
    const rooms = found[kind] ?? {}
    const threads = rooms[room_id] ?? {}
    threads[root_event_id] = subscribed ? { automatic, bump_stamp } : { bump_stamp }
    rooms[room_id] = threads
    found[kind] = rooms
  }
  return found
}
