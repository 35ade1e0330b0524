/** Which shards this process owns. Whoever works on a room or a user holds its shard meanwhile; a shard is given up when
 *  nobody holds it any more, so that the next owner finds all that was begun here stored. */
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'

/** For work that any main may do. */
export const anyShard = -1

type OnShards = (shards: readonly number[]) => void | Promise<void>

export interface ShardOwnership {
  /** Whether commands of this shard are taken now. */
  owns(shard: number): boolean
  /** Whether this process alone works on the shard: also while it finishes what is under way, before it gives the shard up. */
  holds(shard: number): boolean
  /** Holds the shard until the returned function is called; undefined where this process does not own it, or is about to
   *  give it up. `anyShard` is refused only when the process ends. `nested`: for work that is already under way on
   *  another shard, also where this one is about to be given up and somebody works on it still: two that wait for each other
   *  would never end. */
  enter(shard: number, nested?: boolean): (() => void) | undefined
  /** Called after the shards are this process's, before their first command. Returns how to end that. */
  onGained(listener: OnShards): () => void
  /** Called when nothing works on the shards any more, before they are anybody else's; waits for what is returned. */
  onLost(listener: OnShards): () => void
  /** Gives up all shards in good order; resolves when they are others', or free. */
  release(): Promise<void>
}

/** The shard has another owner: whoever asked has to look again. */
export class ShardMovedError extends MatrixError {
  readonly shard: number
  constructor(shard: number) {
    super('M_UNAVAILABLE', 'Another process writes this room or user now', {
      status: 421,
      extra: { retry_after_ms: 100 },
    })
    this.name = 'ShardMovedError'
    this.shard = shard
  }
}
