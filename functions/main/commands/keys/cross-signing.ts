/** Takes a user's cross-signing keys.
 *  https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysdevice_signingupload */
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { CrossSigningKeyWrite, keyCommands } from '../../../../shared/commands/keys.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { parseJsonObject } from '../../../../shared/matrix/parse-json.ts'
import { verifyJson, verifyKeyFromBase64 } from '../../../../shared/matrix/signatures.ts'
import {
  type CrossSigningUsage,
  crossSigningKeysOf,
  crossSigningUsages,
  type StoredCrossSigningKey,
} from '../../../../shared/storage/device-keys.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import type { KeyDeps } from './index.ts'

type Request = RequestOf<(typeof keyCommands)['uploadCrossSigningKeys']>
type Keys = ReadonlyMap<CrossSigningUsage, CrossSigningKeyWrite>
const text = 25

export function crossSigningHandlers(deps: KeyDeps): Pick<MainClient, 'uploadCrossSigningKeys'> {
  return { uploadCrossSigningKeys: (request) => deps.queue.run(request.user_id, () => upload(deps, request)) }
}

async function upload(deps: KeyDeps, request: Request): Promise<Record<string, never>> {
  const { user_id } = request
  const stored = await crossSigningKeysOf(deps.sql, [user_id])
  const held: Keys = new Map(stored.map((key: StoredCrossSigningKey) => [key.usage, key]))
  const sent: Keys = new Map(
    crossSigningUsages.flatMap((usage) => (request[usage] ? [[usage, request[usage]] as const] : [])),
  )
  const master = sent.get('master') ?? held.get('master')
  if (!master) throw new MatrixError('M_MISSING_PARAM', 'There is no master key: send it along')
  const isOther = (usage: CrossSigningUsage) =>
    sent.has(usage) && sent.get(usage)?.public_key !== held.get(usage)?.public_key
  const changed = crossSigningUsages.filter(isOther)
  if (changed.length === 0) return {}
  if (held.has('master') && !request.authenticated) {
    throw new MatrixError('M_FORBIDDEN', 'These keys take the place of others, which needs authentication')
  }
  // Signatures of a former master key say nothing any more.
  const anew = isOther('master')
  const kept: Keys = new Map([...held].filter(([usage]) => !sent.has(usage) && !(anew && usage !== 'master')))
  const taken: Keys = new Map([...sent].filter(([usage]) => isOther(usage) || (anew && usage !== 'master')))
  await checkNames(deps, user_id, [...kept, ...taken])
  for (const [usage, key] of taken) {
    if (usage !== 'master' && !isSignedBy(key, user_id, master.public_key)) {
      throw new MatrixError('M_INVALID_SIGNATURE', `The key for ${usage} is not signed by the master key`)
    }
  }
  const gone = [...held].filter(([usage, key]) => (taken.get(usage) ?? kept.get(usage))?.public_key !== key.public_key)
  await deps.committer.commit(
    joinWrites(
      keyWrites(user_id, taken, gone),
      // The user-signing key is nobody else's to see.
      {
        device_lists: [changed.every((usage) => usage === 'user_signing') ? { user_id, viewer: user_id } : { user_id }],
      },
      answered({}),
    ),
  )
  return {}
}

/** Ids of devices and public keys share one name space. https://spec.matrix.org/v1.19/client-server-api/#cross-signing */
async function checkNames(
  { sql }: KeyDeps,
  user_id: Request['user_id'],
  keys: readonly (readonly [CrossSigningUsage, CrossSigningKeyWrite])[],
): Promise<void> {
  const names = keys.map(([, key]) => key.public_key)
  if (new Set(names).size < names.length) {
    throw new MatrixError('M_INVALID_PARAM', 'Each usage needs a key of its own')
  }
  const [device] = await sql`
    select from devices where user_id = ${user_id} and device_id = any(${sql.array(names, text)}::text[])`
  if (device) throw new MatrixError('M_FORBIDDEN', 'A key has the same name as one of your devices')
}

function isSignedBy({ key }: CrossSigningKeyWrite, user_id: string, publicKey: string): boolean {
  const verifyKey = verifyKeyFromBase64(publicKey)
  return verifyJson(parseJsonObject(key), user_id, (id) => (id === `ed25519:${publicKey}` ? verifyKey : undefined))
}

function keyWrites(
  user_id: Request['user_id'],
  taken: Keys,
  gone: readonly (readonly [CrossSigningUsage, CrossSigningKeyWrite])[],
): Writes {
  return {
    also: (tx) => [
      ...gone.flatMap(([usage, { public_key }]) => [
        tx`delete from cross_signing_keys where user_id = ${user_id} and usage = ${usage}`,
        tx`delete from key_signatures where user_id = ${user_id} and key_id = ${public_key}`,
        tx`delete from key_signatures where signer = ${user_id} and signing_key = ${pgText(`ed25519:${public_key}`)}`,
      ]),
      ...[...taken].map(
        ([usage, { public_key, key }]) => tx`
          insert into cross_signing_keys (user_id, usage, public_key, key)
          values (${user_id}, ${usage}, ${public_key}, ${key})
          on conflict (user_id, usage) do update set public_key = excluded.public_key, key = excluded.key`,
      ),
    ],
  }
}
