/** A directory of shards that a test fills by hand. */
import type { ShardDirectory, ShardOwner } from '../../shared/replication/shard-directory.ts'

export interface FixedDirectory extends ShardDirectory {
  /** Who owns a shard from now on; `all` are those without an owner of their own. */
  set(owners: { readonly all?: ShardOwner | undefined; readonly shards?: ReadonlyMap<number, ShardOwner> }): void
  /** How often somebody looked again. */
  readonly looks: number
}

export function fixedDirectory(url?: string): FixedDirectory {
  let all: ShardOwner | undefined = url === undefined ? undefined : { id: 'main', url, epoch: 1 }
  let shards: ReadonlyMap<number, ShardOwner> = new Map()
  const listeners = new Set<() => void>()
  let looks = 0
  return {
    ownerOf: (shard) => shards.get(shard) ?? all,
    anyMain: () => all ?? [...shards.values()][0],
    knows: ({ id, url }) => [all, ...shards.values()].some((owner) => owner?.id === id && owner.url === url),
    async refresh() {
      looks++
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      listeners.clear()
    },
    set(owners) {
      all = owners.all
      shards = owners.shards ?? new Map()
      for (const listener of [...listeners]) listener()
    },
    get looks() {
      return looks
    },
  }
}
