/** Reads of device keys, cross-signing keys and the signatures on them. */
import type { DeviceId, UserId } from '../matrix/ids.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

const text = 25

export const crossSigningUsages = ['master', 'self_signing', 'user_signing'] as const
export type CrossSigningUsage = (typeof crossSigningUsages)[number]

export interface StoredDeviceKeys {
  readonly user_id: UserId
  readonly device_id: DeviceId
  /** JSON text as uploaded. */
  readonly keys: string
  readonly display_name: string | null
}

export interface StoredCrossSigningKey {
  readonly user_id: UserId
  readonly usage: CrossSigningUsage
  /** Unpadded base64. */
  readonly public_key: string
  /** JSON text as uploaded. */
  readonly key: string
}

export interface StoredSignature {
  readonly user_id: UserId
  /** The signed key: a device's id, or a public key. */
  readonly key_id: string
  readonly signer: UserId
  readonly signing_key: string
  readonly signature: string
}

/** Keys of all devices of these users that have any, in the order of users and devices. */
export async function deviceKeysOf(sql: ReadSql, users: readonly UserId[]): Promise<StoredDeviceKeys[]> {
  if (users.length === 0) return []
  const rows = await sql<StoredDeviceKeys[]>`
    select k.user_id, k.device_id, k.keys, d.display_name
    from device_keys k join devices d on d.user_id = k.user_id and d.device_id = k.device_id
    where k.user_id = any(${sql.array([...users], text)}::text[]) order by k.user_id, k.device_id`
  return rows.map((row) => ({
    ...row,
    device_id: fromPgText(row.device_id) as DeviceId,
    display_name: row.display_name === null ? null : fromPgText(row.display_name),
  }))
}

export async function crossSigningKeysOf(
  sql: ReadSql,
  users: readonly UserId[],
): Promise<readonly StoredCrossSigningKey[]> {
  if (users.length === 0) return []
  return sql<StoredCrossSigningKey[]>`
    select user_id, usage, public_key, key from cross_signing_keys
    where user_id = any(${sql.array([...users], text)}::text[]) order by user_id, usage`
}

/** Signatures on the keys of these users that were uploaded apart from the keys, as `viewer` may see them: each user's own,
 *  and the viewer's, where it is a user. https://spec.matrix.org/v1.19/client-server-api/#key-and-signature-security */
export async function signaturesOn(
  sql: ReadSql,
  users: readonly UserId[],
  viewer: UserId | undefined,
): Promise<StoredSignature[]> {
  if (users.length === 0) return []
  const rows = await sql<StoredSignature[]>`
    select user_id, key_id, signer, signing_key, signature from key_signatures
    where user_id = any(${sql.array([...users], text)}::text[]) and (signer = user_id or signer = ${viewer ?? ''})`
  return rows.map((row) => ({
    ...row,
    key_id: fromPgText(row.key_id),
    signing_key: fromPgText(row.signing_key),
  }))
}

/** Whether one of the user's public cross-signing keys is named as this device would be. */
export async function isCrossSigningKey(sql: ReadSql, user_id: UserId, device_id: string): Promise<boolean> {
  const [found] = await sql`
    select from cross_signing_keys where user_id = ${user_id} and public_key = ${pgText(device_id)}`
  return found !== undefined
}

/** Which of these users have an account here. */
export async function accountsAmong(sql: ReadSql, users: readonly UserId[]): Promise<Set<UserId>> {
  if (users.length === 0) return new Set()
  const rows = await sql<{ user_id: UserId }[]>`
    select user_id from users where user_id = any(${sql.array([...users], text)}::text[])`
  return new Set(rows.map((row) => row.user_id))
}
