/** Work that one main alone does, such as pruning: it runs where a certain shard is, and moves with it. */
import type { ShardOwnership } from './ownership.ts'

/** Starts the work when the shard comes, and stops it before the shard goes. Without an ownership it runs at once. Returns
 *  what ends it for good. */
export function whileOwned(
  ownership: Pick<ShardOwnership, 'owns' | 'onGained' | 'onLost'> | undefined,
  shard: number,
  start: () => () => Promise<void> | void,
): () => Promise<void> {
  let stop: (() => Promise<void> | void) | undefined
  const end = async () => {
    const stopping = stop
    stop = undefined
    await stopping?.()
  }
  const begin = () => {
    stop ??= start()
  }
  if (ownership === undefined || ownership.owns(shard)) begin()
  const offGained = ownership?.onGained((shards) => {
    if (shards.includes(shard)) begin()
  })
  const offLost = ownership?.onLost(async (shards) => {
    if (shards.includes(shard)) await end()
  })
  return async () => {
    offGained?.()
    offLost?.()
    await end()
  }
}
