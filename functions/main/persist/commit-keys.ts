/** The part of a commit that is about keys: parameters of the database function `commit_keys` (migration 0006). Batches
 *  without keys do not call it. */
import { pgText } from '../../../shared/storage/sql.ts'
import type { DeviceListRow } from '../../../shared/streams/device-lists.ts'
import type { KeyCountRow } from '../../../shared/streams/key-counts.ts'
import type { KeyClaimWrite, Unplaced, Writes } from './writes.ts'

export interface EncodedKeys {
  readonly counts: readonly [device_lists: number, key_counts: number]
  /** JSON text of the rows. */
  readonly rest: string
}

/** Undefined where the batch has none. Throws nothing; of rows that take each other's place the last one is stored. */
export function encodeKeys(batch: readonly Writes[], now: number): EncodedKeys | undefined {
  const lists: Unplaced<DeviceListRow>[] = []
  const counts: Unplaced<KeyCountRow>[] = []
  const claims: KeyClaimWrite[] = []
  for (const writes of batch) {
    if (writes.device_lists) lists.push(...writes.device_lists)
    if (writes.key_counts) counts.push(...writes.key_counts)
    if (writes.key_claims) claims.push(...writes.key_claims)
  }
  if (lists.length + counts.length + claims.length === 0) return undefined
  const listRows = new Map<string, object>()
  for (const [i, { user_id, viewer = '' }] of lists.entries()) {
    listRows.set(`${user_id}\0${viewer}`, { user_id, viewer, at: i + 1 })
  }
  const countRows = new Map<string, object>()
  for (const [i, { user_id, device_id }] of counts.entries()) {
    countRows.set(`${user_id}\0${device_id}`, { user_id, device_id: pgText(device_id), at: i + 1 })
  }
  const rest = {
    now,
    ...(listRows.size > 0 ? { device_lists: [...listRows.values()] } : {}),
    ...(countRows.size > 0 ? { key_counts: [...countRows.values()] } : {}),
    ...(claims.length > 0 ? { claims: claims.map(storedClaim) } : {}),
  }
  return { counts: [lists.length, counts.length], rest: JSON.stringify(rest) }
}

function storedClaim({ user_id, device_id, algorithm, key_id }: KeyClaimWrite): object {
  return { user_id, device_id: pgText(device_id), algorithm: pgText(algorithm), key_id: pgText(key_id) }
}
