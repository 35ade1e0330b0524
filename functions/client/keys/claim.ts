import * as v from 'valibot'
import type { KeyClaim } from '../../../shared/commands/keys.ts'
import { shardOf } from '../../../shared/commands/shards.ts'
import { DeviceId, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'
import { mapOf } from './map-of.ts'
import { unreachable } from './unreachable.ts'

const claimsMax = 5_000

export const postKeysClaim = route({
  method: 'POST',
  path: '/_matrix/client/v3/keys/claim',
  spec: 'client-server-api/#post_matrixclientv3keysclaim',
  auth: 'guest',
  body: v.object({
    timeout: v.optional(v.number()),
    one_time_keys: mapOf(UserId, mapOf(DeviceId, v.pipe(v.string(), v.maxLength(255)))),
  }),
  async handle({ body }, { main, config }) {
    const { local, failures } = unreachable(Object.keys(body.one_time_keys) as UserId[], config)
    const byShard = new Map<number, KeyClaim[]>()
    let claims = 0
    for (const user_id of local) {
      for (const [device_id, algorithm] of Object.entries(body.one_time_keys[user_id] ?? {})) {
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
    const one_time_keys = Object.fromEntries(
      [...found].map(([user_id, devices]) => [user_id, Object.fromEntries(devices)]),
    )
    return { one_time_keys, failures }
  },
})
