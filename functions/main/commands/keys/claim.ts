/** Gives out one-time keys, each once, and fallback keys where there are none.
 *  https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim */
import type { KeyClaim } from '../../../../shared/commands/keys.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { shardOf } from '../../../../shared/commands/shards.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { isRefused } from '../../persist/commit-connection.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import { createClaimStock, type FoundKey } from './claim-stock.ts'
import type { KeyDeps } from './index.ts'

/** A key can be gone from under a claim where its device is logged out at that moment. */
const attemptsMax = 5

export function claimHandlers({ sql, committer }: Pick<KeyDeps, 'sql' | 'committer'>): Pick<MainClient, 'claimKeys'> {
  const stock = createClaimStock(sql)

  /** Undefined: a key was gone, and nothing was given out. */
  async function attempt(claims: readonly KeyClaim[]) {
    const taken = await stock.take(claims)
    try {
      const found = taken.flatMap((key) => key ?? [])
      const response = { keys: found.map(({ kind: _, ...key }) => key) }
      const writes = claimWrites(found)
      if (writes) await committer.commit(joinWrites(writes, answered(response)))
      return response
    } catch (error) {
      if (isRefused(error) && error.code === 'GN002') return undefined
      throw error
    } finally {
      stock.giveBack(taken)
    }
  }

  return {
    async claimKeys({ shard, claims }) {
      for (const { user_id } of claims) {
        if (shardOf(user_id) !== shard) throw new Error(`${user_id} is not of shard ${shard}`)
      }
      for (let i = 0; i < attemptsMax; i++) {
        const response = await attempt(claims)
        if (response) return response
      }
      throw new Error(`keys were gone ${attemptsMax} times as they were to be given out`)
    },
  }
}

/** Undefined where nothing changes: fallback keys that were given out before are given out again. */
function claimWrites(found: readonly FoundKey[]): Writes | undefined {
  const spent = found.filter(({ kind }) => kind !== 'used_fallback')
  if (spent.length === 0) return undefined
  const fallbacks = spent.filter(({ kind }) => kind === 'unused_fallback')
  return {
    key_claims: spent.filter(({ kind }) => kind === 'one_time'),
    key_counts: spent.map(({ user_id, device_id }) => ({ user_id, device_id })),
    also: (tx) =>
      fallbacks.map(
        ({ user_id, device_id, algorithm, key_id, key }) => tx`
          update fallback_keys set used = true
          where user_id = ${user_id} and device_id = ${pgText(device_id)} and algorithm = ${pgText(algorithm)}
            and key_id = ${pgText(key_id)} and key = ${key}`,
      ),
  }
}
