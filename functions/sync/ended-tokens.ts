/** Access tokens that ended while a request of theirs was under way: what happens afterwards is not for who held them, and
 *  who waits is answered at once. */
import { LRUCache } from 'lru-cache'
import type { Requester } from '../../shared/auth/requester.ts'
import { entriesUpTo } from '../../shared/lru-bound.ts'
import type { UserId } from '../../shared/matrix/ids.ts'
import type { Replication } from '../../shared/replication/replication.ts'

/** Of what is forgotten, a request that waits may answer once more. */
const entriesMax = 10_000

interface Waiting {
  readonly user_id: UserId
  readonly wakes: Set<() => void>
}

export class EndedTokens {
  readonly close: () => void
  /** Position in stream `invalidations`, by hash of the token and by user. */
  private readonly tokens = new LRUCache<string, number>({ ...entriesUpTo(entriesMax) })
  private readonly users = new LRUCache<string, number>({ ...entriesUpTo(entriesMax) })
  /** Who waits, by hash of the token. */
  private readonly waiting = new Map<string, Waiting>()

  constructor(replication: Replication) {
    this.close = replication.subscribe('invalidations', ({ rows }) => {
      for (const { cache, key, position } of rows) {
        if (cache === 'access_token') {
          this.tokens.set(key, position)
          wakeAll(this.waiting.get(key))
        } else if (cache === 'user_tokens') {
          this.users.set(key, position)
          // Rare enough to look at everybody who waits.
          for (const waiting of [...this.waiting.values()]) if (waiting.user_id === key) wakeAll(waiting)
        }
      }
    })
  }

  /** True if the requester's token may have ended after this position of stream `invalidations`. */
  endedAfter({ token_hash, user_id }: Requester, position: number): boolean {
    return (this.tokens.get(token_hash) ?? 0) > position || (this.users.get(user_id) ?? 0) > position
  }

  /** Calls `wake` when the requester's token may have ended; the returned function ends that. */
  onEnd({ token_hash, user_id }: Requester, wake: () => void): () => void {
    let waiting = this.waiting.get(token_hash)
    if (!waiting) {
      waiting = { user_id, wakes: new Set() }
      this.waiting.set(token_hash, waiting)
    }
    const mine = waiting
    mine.wakes.add(wake)
    return () => {
      mine.wakes.delete(wake)
      if (mine.wakes.size === 0 && this.waiting.get(token_hash) === mine) this.waiting.delete(token_hash)
    }
  }
}

function wakeAll(waiting: Waiting | undefined): void {
  for (const wake of [...(waiting?.wakes ?? [])]) wake()
}
