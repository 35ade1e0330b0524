/** Devices that no client runs. https://github.com/matrix-org/matrix-spec-proposals/pull/3814
 *  Such a device has a row in `devices`, keys and an inbox as any other, and no token. */
import type { Clock } from '../../../../shared/clock.ts'
import type { RequestOf } from '../../../../shared/commands/define.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { toDeviceCommands } from '../../../../shared/commands/to-device.ts'
import type { DeviceId, UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { dehydratedDeviceOf } from '../../../../shared/storage/dehydrated-devices.ts'
import { isCrossSigningKey } from '../../../../shared/storage/device-keys.ts'
import { type MainSql, pgText, type ReadSql } from '../../../../shared/storage/sql.ts'
import type { EndedRows } from '../../background/ended-rows.ts'
import { answered } from '../../command-call.ts'
import type { KeyedQueue } from '../../keyed-queue.ts'
import { type Committer, joinWrites, type Writes } from '../../persist/writes.ts'
import { deviceNameCharactersMax, endDevices } from '../accounts/sessions.ts'
import { type Device, fallbackWrites, oneTimeKeysMax, oneTimeKeyWrites } from '../keys/upload.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  /** The one in which a user's sessions change. */
  readonly queue: KeyedQueue
  readonly endedRows: Pick<EndedRows, 'sweep'>
}

type Request = RequestOf<(typeof toDeviceCommands)['putDehydratedDevice']>

export function dehydratedDeviceHandlers(
  deps: Deps,
): Pick<MainClient, 'putDehydratedDevice' | 'deleteDehydratedDevice'> {
  const { committer, queue, endedRows } = deps
  const sql = deps.sql as unknown as ReadSql

  async function put(request: Request) {
    const { user_id, device_id } = request
    await checkName(request)
    const former = await dehydratedDeviceOf(sql, user_id)
    const ended = former ? await endDevices(deps.sql, user_id, [former.device_id]) : {}
    const response = { device_id }
    await committer.commit(joinWrites(ended, deviceWrites(request), answered(response)))
    endedRows.sweep()
    return response
  }

  /** A device that a client runs, and one that is named as a cross-signing key, is not for taking. */
  async function checkName({ user_id, device_id, one_time_keys }: Request): Promise<void> {
    if (one_time_keys.length > oneTimeKeysMax) {
      throw new MatrixError('M_TOO_LARGE', `A device can have ${oneTimeKeysMax} one-time keys at most`, { status: 400 })
    }
    const [taken] = await sql`
      select from devices d where d.user_id = ${user_id} and d.device_id = ${pgText(device_id)} and not exists (
        select from dehydrated_devices where user_id = d.user_id and device_id = d.device_id)`
    if (taken) throw new MatrixError('M_INVALID_PARAM', 'You have a device of this id already')
    if (await isCrossSigningKey(sql, user_id, device_id)) {
      throw new MatrixError('M_FORBIDDEN', 'This device id is the name of one of your cross-signing keys')
    }
  }

  function deviceWrites(request: Request): Writes {
    const { user_id, device_id, device_data, device_keys, one_time_keys, fallback_keys } = request
    const of: Device = { user_id, device: pgText(device_id) }
    const name = request.display_name?.slice(0, deviceNameCharactersMax)
    const made: Writes = {
      device_lists: [{ user_id }],
      key_counts: [{ user_id, device_id }],
      also: (tx) => [
        tx`insert into devices (user_id, device_id, display_name, created_ts)
          values (${user_id}, ${of.device}, ${name === undefined ? null : pgText(name)}, ${deps.clock.now()})`,
        tx`insert into dehydrated_devices (user_id, device_id, device_data)
          values (${user_id}, ${of.device}, ${JSON.stringify(device_data)})`,
        tx`insert into device_keys (user_id, device_id, keys) values (${user_id}, ${of.device}, ${device_keys})`,
      ],
    }
    return joinWrites(
      made,
      one_time_keys.length > 0 ? oneTimeKeyWrites(deps, of, one_time_keys, one_time_keys) : {},
      fallback_keys.length > 0 ? fallbackWrites(of, fallback_keys) : {},
    )
  }

  async function remove(user_id: UserId): Promise<{ device_id: DeviceId }> {
    const held = await dehydratedDeviceOf(sql, user_id)
    if (!held) throw new MatrixError('M_NOT_FOUND', 'You have no dehydrated device')
    const response = { device_id: held.device_id }
    await committer.commit(joinWrites(await endDevices(deps.sql, user_id, [held.device_id]), answered(response)))
    endedRows.sweep()
    return response
  }

  return {
    putDehydratedDevice: (request) => queue.run(request.user_id, () => put(request)),
    deleteDehydratedDevice: ({ user_id }) => queue.run(user_id, () => remove(user_id)),
  }
}
