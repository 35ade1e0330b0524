/** Devices that no client runs: they gather messages until a client takes them.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/3814 */
import * as v from 'valibot'
import { largeBodyBytesMax } from '../../../shared/http/body.ts'
import { RawJson } from '../../../shared/http/route.ts'
import { DeviceId, type UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { dehydratedDeviceOf } from '../../../shared/storage/dehydrated-devices.ts'
import { messagesPerAnswer, readInbox, toDeviceJson } from '../../../shared/storage/to-device.ts'
import type { StreamPosition } from '../../../shared/streams/define.ts'
import { encodeInboxToken, parseInboxToken } from '../../../shared/streams/token.ts'
import { type ClientDeps, route } from '../deps.ts'
import { ClaimableKeys, checkOneAnAlgorithm, claimableKeys, deviceKeys } from '../keys/upload.ts'

const spec = 'https://github.com/matrix-org/matrix-spec-proposals/pull/3814'
const path = '/_matrix/client/unstable/org.matrix.msc3814.v1/dehydrated_device'
const eventsPath = `${path}/:deviceId/events`
const params = v.object({ deviceId: DeviceId })
/** Of messages in an answer, within what an answer holds. */
const limit = v.optional(
  v.pipe(
    v.string(),
    v.regex(/^\d{1,9}$/),
    v.transform((digits) => Math.min(Math.max(Number(digits), 1), messagesPerAnswer)),
  ),
)

export const putDehydratedDevice = route({
  method: 'PUT',
  path,
  spec,
  auth: 'user',
  limit: 'account',
  sticky: 'user',
  body: v.object({
    device_id: DeviceId,
    device_data: v.looseObject({ algorithm: v.string() }),
    initial_device_display_name: v.nullish(v.string()),
    device_keys: v.unknown(),
    one_time_keys: ClaimableKeys,
    fallback_keys: ClaimableKeys,
  }),
  bodyBytesMax: largeBodyBytesMax,
  async handle({ body, user: { user_id } }, { main }) {
    const { device_id, initial_device_display_name: display_name } = body
    const fallback_keys = claimableKeys(body.fallback_keys ?? {})
    checkOneAnAlgorithm(fallback_keys)
    return main.putDehydratedDevice({
      user_id,
      device_id,
      device_data: body.device_data as JsonObject,
      ...(display_name == null ? {} : { display_name }),
      device_keys: deviceKeys(body.device_keys, { user_id, device_id }),
      one_time_keys: claimableKeys(body.one_time_keys ?? {}),
      fallback_keys,
    })
  },
})

export const getDehydratedDevice = route({
  method: 'GET',
  path,
  spec,
  auth: 'user',
  sticky: 'user',
  async handle({ user: { user_id } }, { sql }) {
    const found = await dehydratedDeviceOf(sql, user_id)
    if (!found) throw new MatrixError('M_NOT_FOUND', 'You have no dehydrated device')
    return new RawJson(`{"device_id":${JSON.stringify(found.device_id)},"device_data":${found.device_data}}`)
  },
})

export const deleteDehydratedDevice = route({
  method: 'DELETE',
  path,
  spec,
  auth: 'user',
  limit: 'account',
  sticky: 'user',
  handle: ({ user: { user_id } }, { main }) => main.deleteDehydratedDevice({ user_id }),
})

export const getDehydratedEvents = route({
  method: 'GET',
  path: eventsPath,
  spec,
  auth: 'user',
  sticky: 'user',
  params,
  query: v.object({ from: v.optional(v.string()), limit }),
  async handle({ params: { deviceId: device_id }, query, user: { user_id } }, deps) {
    const { events, next_batch, more } = await eventsOf(deps, { user_id, device_id, ...query })
    return new RawJson(more ? `{"events":[${events}],"next_batch":"${next_batch}"}` : `{"events":[${events}]}`)
  },
})

/** As an earlier draft had it, and as clients ask: until no event comes. */
export const postDehydratedEvents = route({
  method: 'POST',
  path: eventsPath,
  spec,
  auth: 'user',
  sticky: 'user',
  params,
  query: v.object({ limit }),
  body: v.object({ next_batch: v.nullish(v.string()) }),
  emptyBody: true,
  async handle({ params: { deviceId: device_id }, query, body, user: { user_id } }, deps) {
    const from = body.next_batch ?? undefined
    const { events, next_batch } = await eventsOf(deps, { user_id, device_id, from, limit: query.limit })
    return new RawJson(`{"events":[${events}],"next_batch":"${next_batch}"}`)
  },
})

interface Asked {
  readonly user_id: UserId
  readonly device_id: DeviceId
  readonly from?: string | undefined
  readonly limit?: number | undefined
}

/** What came for the device after `from`. It stays until the device is deleted: a client that fails on the way begins anew. */
async function eventsOf({ sql, replication }: ClientDeps, { user_id, device_id, from, limit }: Asked) {
  const held = await dehydratedDeviceOf(sql, user_id)
  if (held?.device_id !== device_id) throw new MatrixError('M_FORBIDDEN', 'This is not your dehydrated device')
  const after = from === undefined ? 0 : parseInboxToken(from, 'next_batch')
  // Another handler may have read ahead in the database of what was published.
  const ahead = after > 0 && replication.reach?.({ to_device: after as StreamPosition })
  if (ahead) await ahead
  const upTo = replication.positions().to_device
  // A place beyond the stream was given out by a database that is no more.
  const range = { after: after > upTo ? 0 : after, upTo }
  const { messages, upTo: end } = await readInbox(
    sql,
    { user_id, device_id },
    { ...range, limit: limit ?? messagesPerAnswer },
  )
  return { events: messages.map(toDeviceJson).join(','), next_batch: encodeInboxToken(end), more: end < upTo }
}
