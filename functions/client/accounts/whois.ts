/** https://spec.matrix.org/v1.19/client-server-api/#server-administration */
import * as v from 'valibot'
import { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { accountExists } from '../../../shared/storage/accounts.ts'
import { devicesOf } from '../../../shared/storage/devices.ts'
import { route } from '../deps.ts'

export const getWhois = route({
  method: 'GET',
  path: '/_matrix/client/v3/admin/whois/:userId',
  spec: 'client-server-api/#get_matrixclientv3adminwhoisuserid',
  auth: 'user',
  params: v.object({ userId: UserId }),
  async handle({ params: { userId }, user }, { sql }) {
    if (userId !== user.user_id && !user.admin) {
      throw new MatrixError('M_FORBIDDEN', 'Only administrators may look at other users')
    }
    if (!(await accountExists(sql, userId))) throw new MatrixError('M_NOT_FOUND', 'There is no such account')
    const devices = (await devicesOf(sql, userId)).map((device) => {
      const seen = device.last_seen_ts !== null && {
        ip: device.last_seen_ip ?? '',
        last_seen: device.last_seen_ts,
        user_agent: device.last_seen_agent ?? '',
      }
      return [device.device_id, { sessions: [{ connections: seen ? [seen] : [] }] }]
    })
    return { user_id: userId, devices: Object.fromEntries(devices) }
  },
})
