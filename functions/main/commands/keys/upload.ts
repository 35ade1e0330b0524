/** Takes a device's identity keys and the keys that others claim.
 *  https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysupload */
import { hash } from 'node:crypto'
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { ClaimableKey, keyCommands } from '../../../../shared/commands/keys.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { DeviceId, UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import type { KeyDeps } from './index.ts'
import { signedPart } from './signed-part.ts'

/** Clients keep about fifty there. */
export const oneTimeKeysMax = 1_000
const dayMs = 86_400_000
const text = 25

export interface Device {
  readonly user_id: UserId
  /** As the database holds it. */
  readonly device: string
}

export function uploadHandlers(deps: KeyDeps): Pick<MainClient, 'uploadKeys'> {
  return { uploadKeys: (request) => deps.queue.run(request.user_id, () => upload(deps, request)) }
}

type Request = RequestOf<(typeof keyCommands)['uploadKeys']>

async function upload(deps: KeyDeps, request: Request) {
  const { user_id, device_id } = request
  const of: Device = { user_id, device: pgText(device_id) }
  const [known] = await deps.sql`select from devices where user_id = ${user_id} and device_id = ${of.device}`
  if (!known) throw new MatrixError('M_UNKNOWN_TOKEN', 'This device was logged out', { extra: { soft_logout: false } })
  const [identity, { fresh, counts }, fallback] = await Promise.all([
    identityWrites(deps, of, device_id, request.device_keys),
    freshOneTimeKeys(deps, of, request.one_time_keys),
    changedFallbackKeys(deps, of, request.fallback_keys),
  ])
  const parts: Writes[] = [identity]
  if (fresh.length > 0) parts.push(oneTimeKeyWrites(deps, of, fresh, request.one_time_keys))
  if (fallback.length > 0) parts.push(fallbackWrites(of, fallback))
  if (fresh.length + fallback.length > 0) parts.push({ key_counts: [{ user_id, device_id }] })
  const answer = { one_time_key_counts: counts }
  const writes = joinWrites(...parts)
  if ((writes.device_lists?.length ?? 0) + (writes.key_counts?.length ?? 0) > 0) {
    await deps.committer.commit(joinWrites(writes, answered(answer)))
  }
  return answer
}

/** Nothing where the keys are those that are there. */
async function identityWrites(
  { sql }: KeyDeps,
  { user_id, device }: Device,
  device_id: DeviceId,
  keys: string | undefined,
): Promise<Writes> {
  if (keys === undefined) return {}
  const [held] = await sql<{ keys: string }[]>`
    select keys from device_keys where user_id = ${user_id} and device_id = ${device}`
  if (held?.keys === keys) return {}
  const isOther = held !== undefined && signedPart(held.keys) !== signedPart(keys)
  return {
    device_lists: [{ user_id }],
    also: (tx) => [
      tx`insert into device_keys (user_id, device_id, keys) values (${user_id}, ${device}, ${keys})
        on conflict (user_id, device_id) do update set keys = excluded.keys`,
      // What was said of the former keys does not hold for these.
      ...(isOther
        ? [
            tx`delete from key_signatures where user_id = ${user_id} and key_id = ${device}`,
            tx`delete from key_signatures where signer = ${user_id} and signing_key = ${pgText(`ed25519:${device_id}`)}`,
          ]
        : []),
    ],
  }
}

/** The keys that are new, and what the device has with them. A key that was given out already is taken for what it is: one
 *  that the client sends again because it never saw our answer. Both tables are read in one statement, so a claim at this
 *  moment shows in one of them. */
async function freshOneTimeKeys({ sql }: KeyDeps, { user_id, device }: Device, sent: readonly ClaimableKey[]) {
  const [held, counted] = await Promise.all([
    sql<{ known_hash: string | null; claimed: boolean }[]>`
      select encode(k.key_hash, 'hex') as known_hash, c.key_hash is not null as claimed
      from unnest(${column(sql, sent, 'algorithm')}::text[], ${column(sql, sent, 'key_id')}::text[],
        ${sql.array(sent.map(keyHash), text)}::text[]) with ordinality as s(algorithm, key_id, key_hash, n)
      left join one_time_keys k on k.user_id = ${user_id} and k.device_id = ${device}
        and k.algorithm = s.algorithm and k.key_id = s.key_id
      left join claimed_keys c on c.user_id = ${user_id} and c.device_id = ${device}
        and c.key_hash = decode(s.key_hash, 'hex')
      order by s.n`,
    sql<{ algorithm: string; n: number }[]>`
      select algorithm, count(*) as n from one_time_keys
      where user_id = ${user_id} and device_id = ${device} group by algorithm`,
  ])
  const fresh = sent.filter((key, i) => {
    const { known_hash = null, claimed = false } = held[i] ?? {}
    if (known_hash !== null && known_hash !== keyHash(key)) {
      throw new MatrixError('M_INVALID_PARAM', `There is another one-time key ${key.algorithm}:${key.key_id} already`)
    }
    return known_hash === null && !claimed
  })
  const counts = new Map([['signed_curve25519', 0], ...counted.map((row) => [row.algorithm, row.n] as const)])
  for (const { algorithm } of fresh) counts.set(algorithm, (counts.get(algorithm) ?? 0) + 1)
  const total = [...counts.values()].reduce((sum, n) => sum + n, 0)
  if (fresh.length > 0 && total > oneTimeKeysMax) {
    throw new MatrixError('M_TOO_LARGE', `A device can have ${oneTimeKeysMax} one-time keys at most`, { status: 400 })
  }
  return { fresh, counts: Object.fromEntries(counts) }
}

export function oneTimeKeyWrites(
  { clock }: Pick<KeyDeps, 'clock'>,
  { user_id, device }: Device,
  fresh: readonly ClaimableKey[],
  sent: readonly ClaimableKey[],
): Writes {
  return {
    also: (tx) => [
      tx`insert into one_time_keys (user_id, device_id, algorithm, key_id, key, key_hash)
        select ${user_id}, ${device}, algorithm, key_id, key, decode(key_hash, 'hex')
        from unnest(${column(tx, fresh, 'algorithm')}::text[], ${column(tx, fresh, 'key_id')}::text[],
          ${tx.array(
            fresh.map(({ key }) => key),
            text,
          )}::text[],
          ${tx.array(fresh.map(keyHash), text)}::text[]) as f(algorithm, key_id, key, key_hash)
        on conflict do nothing`,
      // The client has all answers up to here, or it would send those keys again.
      tx`delete from claimed_keys where user_id = ${user_id} and device_id = ${device}
        and claimed_ts < ${clock.now() - dayMs}
        and encode(key_hash, 'hex') <> all(${tx.array(sent.map(keyHash), text)}::text[])`,
    ],
  }
}

async function changedFallbackKeys({ sql }: KeyDeps, { user_id, device }: Device, sent: readonly ClaimableKey[]) {
  if (sent.length === 0) return []
  const held = await sql<ClaimableKey[]>`
    select algorithm, key_id, key from fallback_keys where user_id = ${user_id} and device_id = ${device}`
  return sent.filter(
    (key) =>
      !held.some(
        (known) => known.algorithm === key.algorithm && known.key_id === pgText(key.key_id) && known.key === key.key,
      ),
  )
}

export function fallbackWrites({ user_id, device }: Device, keys: readonly ClaimableKey[]): Writes {
  return {
    also: (tx) =>
      keys.map(
        ({ algorithm, key_id, key }) => tx`
          insert into fallback_keys (user_id, device_id, algorithm, key_id, key)
          values (${user_id}, ${device}, ${algorithm}, ${pgText(key_id)}, ${key})
          on conflict (user_id, device_id, algorithm)
          do update set key_id = excluded.key_id, key = excluded.key, used = false`,
      ),
  }
}

type WithArrays = Pick<KeyDeps['sql'], 'array'>

function column(sql: WithArrays, keys: readonly ClaimableKey[], name: 'algorithm' | 'key_id') {
  return sql.array(
    keys.map((key) => pgText(key[name])),
    text,
  )
}

/** Tells keys of one device apart, in hexadecimal. */
function keyHash({ algorithm, key_id, key }: ClaimableKey): string {
  return hash('sha256', `${algorithm}\0${key_id}\0${key}`, 'hex').slice(0, 32)
}
