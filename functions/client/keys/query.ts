/** Keys of users' devices, and their cross-signing keys, with the signatures that the asker may see.
 *  https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysquery */
import * as v from 'valibot'
import { RawJson } from '../../../shared/http/route.ts'
import { type KeyQuestion, type QueriedKeys, queriedKeys } from '../../../shared/keys/queried-keys.ts'
import { UserId } from '../../../shared/matrix/ids.ts'
import type { CrossSigningUsage } from '../../../shared/storage/device-keys.ts'
import { route } from '../deps.ts'
import { mapOf } from './map-of.ts'
import { askServers, byServer, waitMs } from './other-servers.ts'
import { keysElsewhere } from './remote-keys.ts'

/** Users whose keys are read together. */
const usersAtOnce = 200

export const postKeysQuery = route({
  method: 'POST',
  path: '/_matrix/client/v3/keys/query',
  spec: 'client-server-api/#post_matrixclientv3keysquery',
  auth: 'guest',
  body: v.object({
    timeout: v.optional(v.number()),
    device_keys: mapOf(UserId, v.nullable(v.array(v.string()))),
  }),
  async handle({ body, user }, { sql, config, federation }) {
    const asked = new Map(Object.entries(body.device_keys) as [UserId, readonly string[] | null][])
    const { local, remote } = byServer([...asked.keys()], config.server_name)
    const elsewhere = askServers(remote, (server, users) =>
      keysElsewhere(federation.client, { server, users, asked, waitMs: waitMs(body.timeout) }),
    )
    const context: KeyQuestion = { sql, viewer: user.user_id, asked }
    const [first, others] = await Promise.all([queriedKeys(context, local.slice(0, usersAtOnce)), elsewhere])
    return new RawJson(answer(context, local, first, others))
  },
})

/** Devices, which are many, are sent as they are read. */
async function* answer(
  context: KeyQuestion,
  users: readonly UserId[],
  first: QueriedKeys,
  others: { readonly answers: readonly QueriedKeys[]; readonly failures: object },
): AsyncIterable<string> {
  const keys: Record<CrossSigningUsage, string[]> = { master: [], self_signing: [], user_signing: [] }
  let begun = false
  yield '{"device_keys":{'
  let next: QueriedKeys | undefined = first
  for (let i = usersAtOnce; next; i += usersAtOnce) {
    const read: Promise<QueriedKeys> | undefined =
      i < users.length ? queriedKeys(context, users.slice(i, i + usersAtOnce)) : undefined
    // A client that goes away leaves it unread by anybody.
    read?.catch(() => {})
    if (next.devices !== '') yield begun ? `,${next.devices}` : next.devices
    begun ||= next.devices !== ''
    for (const usage of ['master', 'self_signing', 'user_signing'] as const) keys[usage].push(...next.keys[usage])
    next = await read
  }
  for (const { devices, keys: theirs } of others.answers) {
    if (devices !== '') yield begun ? `,${devices}` : devices
    begun ||= devices !== ''
    for (const usage of ['master', 'self_signing'] as const) keys[usage].push(...theirs[usage])
  }
  yield `},"master_keys":{${keys.master}},"self_signing_keys":{${keys.self_signing}},`
  yield `"user_signing_keys":{${keys.user_signing}},"failures":${JSON.stringify(others.failures)}}`
}
