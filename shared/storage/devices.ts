/** Reads of devices. */
import type { DeviceId, UserId } from '../matrix/ids.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

export interface Device {
  readonly device_id: DeviceId
  readonly display_name: string | null
  readonly last_seen_ts: number | null
  readonly last_seen_ip: string | null
  readonly last_seen_agent: string | null
}

/** All of a user's devices, oldest first. */
export async function devicesOf(sql: ReadSql, user_id: UserId): Promise<Device[]> {
  const rows = await sql<Device[]>`
    select device_id, display_name, last_seen_ts, last_seen_ip, last_seen_agent
    from devices where user_id = ${user_id} order by created_ts, device_id`
  return rows.map(restored)
}

export async function deviceOf(sql: ReadSql, user_id: UserId, device_id: DeviceId): Promise<Device | undefined> {
  const [row] = await sql<Device[]>`
    select device_id, display_name, last_seen_ts, last_seen_ip, last_seen_agent
    from devices where user_id = ${user_id} and device_id = ${pgText(device_id)}`
  return row && restored(row)
}

function restored(row: Device): Device {
  const { device_id, display_name, last_seen_agent } = row
  return {
    ...row,
    device_id: fromPgText(device_id) as DeviceId,
    display_name: display_name === null ? null : fromPgText(display_name),
    last_seen_agent: last_seen_agent === null ? null : fromPgText(last_seen_agent),
  }
}
