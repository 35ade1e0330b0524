/** What this server says of the keys of others, for those who trust it.
 *  https://spec.matrix.org/v1.19/server-server-api/#querying-keys-through-another-server */
import * as v from 'valibot'
import { KeyId } from '../../shared/federation/key-document.ts'
import { ServerName } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'
import { parseJsonObject } from '../../shared/matrix/parse-json.ts'
import { signJson } from '../../shared/matrix/signatures.ts'
import { keyDocumentsOf } from '../../shared/storage/server-keys.ts'
import { type FederationDeps, route } from './deps.ts'
import { ownKeys } from './server-keys.ts'

/** Servers in one question. */
const serversMax = 100

export const getKeysOfServer = route({
  method: 'GET',
  path: '/_matrix/key/v2/query/:serverName',
  spec: 'server-server-api/#get_matrixkeyv2queryservername',
  auth: 'none',
  limit: 'federation',
  params: v.object({ serverName: ServerName }),
  query: v.object({
    minimum_valid_until_ts: v.optional(v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number))),
  }),
  async handle({ params: { serverName }, query: { minimum_valid_until_ts } }, deps) {
    const wanted = new Map([[serverName, minimum_valid_until_ts ?? deps.clock.now()]])
    return { server_keys: await documents(wanted, deps) }
  },
})

const time = v.pipe(v.number(), v.safeInteger(), v.minValue(0))

export const postKeysOfServers = route({
  method: 'POST',
  path: '/_matrix/key/v2/query',
  spec: 'server-server-api/#post_matrixkeyv2query',
  auth: 'none',
  limit: 'federation',
  body: v.object({
    server_keys: v.pipe(
      v.custom<Record<string, unknown>>(isJsonObject),
      v.record(
        ServerName,
        v.record(v.union([KeyId, v.string()]), v.object({ minimum_valid_until_ts: v.optional(time) })),
      ),
      v.check((servers) => Object.keys(servers).length <= serversMax, `expected at most ${serversMax} servers`),
    ),
  }),
  async handle({ body: { server_keys } }, deps) {
    const now = deps.clock.now()
    const wanted = new Map(
      Object.entries(server_keys).map(([server, keys]) => {
        const times = Object.values(keys).map(({ minimum_valid_until_ts }) => minimum_valid_until_ts ?? now)
        return [server as ServerName, times.length === 0 ? now : Math.max(...times)] as const
      }),
    )
    return { server_keys: await documents(wanted, deps) }
  },
})

/** What each server published last, asked for anew where that is not valid for long enough, signed by this one too. Of a
 *  server that does not answer, what it said before; of one that never did, nothing. */
async function documents(wanted: ReadonlyMap<ServerName, number>, deps: FederationDeps): Promise<JsonObject[]> {
  const { config, sql } = deps
  const { keyRing, signingKeys } = deps.federation
  const others = [...wanted.keys()].filter((server) => server !== config.server_name)
  const found = new Map<ServerName, JsonObject>()
  const stale: ServerName[] = []
  const stored = new Map((await keyDocumentsOf(sql, others)).map((one) => [one.server_name, one]))
  for (const server of others) {
    const known = stored.get(server)
    if (known) found.set(server, parseJsonObject(known.document))
    if (!known || known.valid_until_ts < (wanted.get(server) ?? 0)) stale.push(server)
  }
  for (const { server_name, document } of await keyRing.refresh(stale)) found.set(server_name, document)
  const signed = [...found.values()].map((document) =>
    signingKeys.reduce((signed, key) => signJson(signed, config.server_name, key), document),
  )
  return wanted.has(config.server_name) ? [...signed, ownKeys(deps)] : signed
}
