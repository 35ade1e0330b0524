/** One-time keys of this server's users, each given out once. https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim */
import type { KeyClaim } from '../commands/keys.ts'
import type { MainClient } from '../commands/registry.ts'
import { shardOf } from '../commands/shards.ts'
import type { DeviceId, UserId } from '../matrix/ids.ts'
import { MatrixError } from '../matrix/matrix-error.ts'

const claimsMax = 5_000

/** Algorithms by device, by user. */
export type WantedKeys = Readonly<Record<UserId, Readonly<Record<string, string>>>>
/** Keys by their names, by device, by user. */
export type ClaimedKeys = Record<string, Record<string, Record<string, unknown>>>

/** Throws M_TOO_LARGE for too many at once. */
export async function claimLocalKeys(
  main: Pick<MainClient, 'claimKeys'>,
  users: readonly UserId[],
  wanted: WantedKeys,
): Promise<ClaimedKeys> {
  const byShard = new Map<number, KeyClaim[]>()
  let claims = 0
  for (const user_id of users) {
    for (const [device_id, algorithm] of Object.entries(wanted[user_id] ?? {})) {
      // No key has such a name, and no table can hold it.
      if (algorithm.includes('\0')) continue
      claims++
      const shard = shardOf(user_id)
      const claim = { user_id, device_id: device_id as DeviceId, algorithm }
      const known = byShard.get(shard)
      if (known) known.push(claim)
      else byShard.set(shard, [claim])
    }
  }
  if (claims > claimsMax) throw new MatrixError('M_TOO_LARGE', `${claimsMax} keys at most are claimed at once`)
  const answers = await Promise.all([...byShard].map(([shard, some]) => main.claimKeys({ shard, claims: some })))
  const found = new Map<string, Map<string, Record<string, unknown>>>()
  for (const { user_id, device_id, algorithm, key_id, key } of answers.flatMap((answer) => answer.keys)) {
    const devices = found.get(user_id) ?? new Map<string, Record<string, unknown>>()
    found.set(user_id, devices.set(device_id, { [`${algorithm}:${key_id}`]: JSON.parse(key) }))
  }
  return Object.fromEntries([...found].map(([user_id, devices]) => [user_id, Object.fromEntries(devices)]))
}
