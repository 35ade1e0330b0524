/** The keys by which others know what this server signed. */
import { RawJson } from '../../shared/http/route.ts'
import { canonicalJson } from '../../shared/matrix/canonical-json.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { signJson } from '../../shared/matrix/signatures.ts'
import { type FederationDeps, route } from './deps.ts'

/** Others ask again after this long; so long they take signatures of a key that was replaced. */
const validForMs = 24 * 3_600_000

export const getServerKeys = route({
  method: 'GET',
  path: '/_matrix/key/v2/server',
  spec: 'server-server-api/#get_matrixkeyv2server',
  auth: 'none',
  handle: (_, deps) => keysReply(deps),
})

/** What older servers ask for: all keys are in the answer, whichever is named.
 *  https://spec.matrix.org/v1.5/server-server-api/#get_matrixkeyv2serverkeyid */
export const getServerKey = route({
  method: 'GET',
  path: '/_matrix/key/v2/server/:keyId',
  spec: 'server-server-api/#get_matrixkeyv2server',
  auth: 'none',
  handle: (_, deps) => keysReply(deps),
})

/** In the form that was signed: some check it as it comes. */
function keysReply(deps: FederationDeps): RawJson {
  return new RawJson(canonicalJson(ownKeys(deps)))
}

/** Signed with all keys in use. */
export function ownKeys({ config, clock, federation: { signingKeys } }: FederationDeps): JsonObject {
  const keys: JsonObject = {
    server_name: config.server_name,
    valid_until_ts: clock.now() + validForMs,
    verify_keys: Object.fromEntries(signingKeys.map((key) => [key.keyId, { key: key.publicKeyBase64 }])),
    old_verify_keys: Object.fromEntries(
      config.federation.old_signing_keys.map(({ key_id, key, expired_ts }) => [key_id, { key, expired_ts }]),
    ),
  }
  return signingKeys.reduce((signed, key) => signJson(signed, config.server_name, key), keys)
}
