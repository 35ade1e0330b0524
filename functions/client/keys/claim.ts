/** https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3keysclaim */
import * as v from 'valibot'
import { type FederationClient, RemoteError } from '../../../shared/federation/federation-client.ts'
import { type ClaimedKeys, claimLocalKeys, type WantedKeys } from '../../../shared/keys/claim-local.ts'
import { DeviceId, type ServerName, UserId } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import { route } from '../deps.ts'
import { mapOf } from './map-of.ts'
import { askServers, byServer, waitMs } from './other-servers.ts'

export const postKeysClaim = route({
  method: 'POST',
  path: '/_matrix/client/v3/keys/claim',
  spec: 'client-server-api/#post_matrixclientv3keysclaim',
  auth: 'guest',
  body: v.object({
    timeout: v.optional(v.number()),
    one_time_keys: mapOf(UserId, mapOf(DeviceId, v.pipe(v.string(), v.maxLength(255)))),
  }),
  async handle({ body }, { main, config, federation }) {
    const wanted = body.one_time_keys as WantedKeys
    const { local, remote } = byServer(Object.keys(wanted) as UserId[], config.server_name)
    const [own, { answers, failures }] = await Promise.all([
      claimLocalKeys(main, local, wanted),
      askServers(remote, (server, users) =>
        claimElsewhere(federation.client, { server, users, wanted, waitMs: waitMs(body.timeout) }),
      ),
    ])
    return { one_time_keys: Object.assign({}, own, ...answers), failures }
  },
})

const claimAnswer = v.object({ one_time_keys: v.custom<JsonObject>(isJsonObject) })

/** https://spec.matrix.org/v1.19/server-server-api/#post_matrixfederationv1userkeysclaim */
async function claimElsewhere(
  client: FederationClient,
  question: {
    readonly server: ServerName
    readonly users: readonly UserId[]
    readonly wanted: WantedKeys
    readonly waitMs: number
  },
): Promise<ClaimedKeys> {
  const { server, users, wanted, waitMs } = question
  const one_time_keys = Object.fromEntries(users.map((user) => [user, { ...wanted[user] }]))
  const answer = v.safeParse(
    claimAnswer,
    await client.json(server, {
      method: 'POST',
      uri: '/_matrix/federation/v1/user/keys/claim',
      body: { one_time_keys },
      signal: AbortSignal.timeout(waitMs),
    }),
  )
  if (!answer.success) throw new RemoteError('bad_answer', `${server} answered a claim with something else`)
  const found: ClaimedKeys = {}
  for (const user of users) {
    const devices = answer.output.one_time_keys[user]
    if (!isJsonObject(devices)) continue
    const asked = Object.keys(wanted[user] ?? {})
    const theirs = asked.flatMap((device_id) => {
      const keys = devices[device_id]
      return isJsonObject(keys) ? [[device_id, keys] as const] : []
    })
    found[user] = Object.fromEntries(theirs)
  }
  return found
}
