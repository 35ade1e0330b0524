/** https://spec.matrix.org/v1.19/client-server-api/#device-management */
import * as v from 'valibot'
import { DeviceId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type Device, deviceOf, devicesOf } from '../../../shared/storage/devices.ts'
import { route } from '../deps.ts'
import { Auth, ownerFlows, requireInteractiveAuth } from './interactive-auth.ts'

const path = '/_matrix/client/v3/devices/:deviceId'
const params = v.object({ deviceId: DeviceId })

export const getDevices = route({
  method: 'GET',
  path: '/_matrix/client/v3/devices',
  spec: 'client-server-api/#get_matrixclientv3devices',
  auth: 'guest',
  async handle({ user }, { sql }) {
    return { devices: (await devicesOf(sql, user.user_id)).map(deviceJson) }
  },
})

export const getDevice = route({
  method: 'GET',
  path,
  spec: 'client-server-api/#get_matrixclientv3devicesdeviceid',
  auth: 'guest',
  params,
  async handle({ params: { deviceId }, user }, { sql }) {
    const device = await deviceOf(sql, user.user_id, deviceId)
    if (!device) throw new MatrixError('M_NOT_FOUND', 'There is no such device')
    return deviceJson(device)
  },
})

export const putDevice = route({
  method: 'PUT',
  path,
  spec: 'client-server-api/#put_matrixclientv3devicesdeviceid',
  auth: 'guest',
  limit: 'account',
  params,
  body: v.object({ display_name: v.nullish(v.string()) }),
  async handle({ params: { deviceId }, body, user: { user_id } }, { sql, main }) {
    if (body.display_name != null) {
      return main.renameDevice({ user_id, device_id: deviceId, display_name: body.display_name })
    }
    if (!(await deviceOf(sql, user_id, deviceId))) throw new MatrixError('M_NOT_FOUND', 'There is no such device')
    return {}
  },
})

export const deleteDevice = route({
  method: 'DELETE',
  path,
  spec: 'client-server-api/#delete_matrixclientv3devicesdeviceid',
  auth: 'user',
  limit: 'account',
  params,
  emptyBody: true,
  body: v.object({ auth: Auth }),
  async handle({ params: { deviceId }, body, user: { user_id } }, deps) {
    const operation = `delete device ${deviceId}`
    await requireInteractiveAuth(deps, { operation, user_id, flows: ownerFlows, auth: body.auth })
    return deps.main.deleteDevices({ user_id, device_ids: [deviceId] })
  },
})

export const postDeleteDevices = route({
  method: 'POST',
  path: '/_matrix/client/v3/delete_devices',
  spec: 'client-server-api/#post_matrixclientv3delete_devices',
  auth: 'user',
  limit: 'account',
  body: v.object({ devices: v.pipe(v.array(DeviceId), v.maxLength(1000)), auth: Auth }),
  async handle({ body, user: { user_id } }, deps) {
    const operation = `delete devices ${JSON.stringify(body.devices.toSorted())}`
    await requireInteractiveAuth(deps, { operation, user_id, flows: ownerFlows, auth: body.auth })
    return deps.main.deleteDevices({ user_id, device_ids: body.devices })
  },
})

function deviceJson({ device_id, display_name, last_seen_ip, last_seen_ts }: Device): object {
  return {
    device_id,
    ...(display_name === null ? {} : { display_name }),
    ...(last_seen_ip === null ? {} : { last_seen_ip }),
    ...(last_seen_ts === null ? {} : { last_seen_ts }),
  }
}
