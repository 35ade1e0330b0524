/** Access tokens that ended while a request of theirs was under way: what happens afterwards is not for who held them. */
import { LRUCache } from 'lru-cache'
import type { Requester } from '../../shared/auth/requester.ts'
import { entriesUpTo } from '../../shared/lru-bound.ts'
import type { Replication } from '../../shared/replication/replication.ts'

/** Of what is forgotten, a request that waits may answer once more. */
const entriesMax = 10_000

export class EndedTokens {
  readonly close: () => void
  /** Position in stream `invalidations`, by hash of the token and by user. */
  private readonly tokens = new LRUCache<string, number>({ ...entriesUpTo(entriesMax) })
  private readonly users = new LRUCache<string, number>({ ...entriesUpTo(entriesMax) })

  constructor(replication: Replication) {
    this.close = replication.subscribe('invalidations', ({ rows }) => {
      for (const { cache, key, position } of rows) {
        if (cache === 'access_token') this.tokens.set(key, position)
        else if (cache === 'user_tokens') this.users.set(key, position)
      }
    })
  }

  /** True if the requester's token may have ended after this position of stream `invalidations`. */
  endedAfter({ token_hash, user_id }: Requester, position: number): boolean {
    return (this.tokens.get(token_hash) ?? 0) > position || (this.users.get(user_id) ?? 0) > position
  }
}
