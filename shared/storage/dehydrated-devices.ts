/** Reads of devices that no client runs. https://github.com/matrix-org/matrix-spec-proposals/pull/3814 */
import type { DeviceId, UserId } from '../matrix/ids.ts'
import { fromPgText, type ReadSql } from './sql.ts'

export interface DehydratedDevice {
  readonly device_id: DeviceId
  /** JSON text. */
  readonly device_data: string
}

/** The user's, of which there is at most one. */
export async function dehydratedDeviceOf(sql: ReadSql, user_id: UserId): Promise<DehydratedDevice | undefined> {
  const [row] = await sql<DehydratedDevice[]>`
    select device_id, device_data from dehydrated_devices where user_id = ${user_id}`
  return row && { ...row, device_id: fromPgText(row.device_id) as DeviceId }
}
