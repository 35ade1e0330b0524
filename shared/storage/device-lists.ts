/** Whose device lists changed, and whose keys were counted anew.
 *  https://spec.matrix.org/v1.19/client-server-api/#tracking-the-device-list-for-a-user */
import type { DeviceId, UserId } from '../matrix/ids.ts'
import type { DeviceListRow } from '../streams/device-lists.ts'
import type { KeyCountRow } from '../streams/key-counts.ts'
import { fromPgText, pgText, type ReadSql } from './sql.ts'

interface Range {
  readonly after: number
  readonly upTo: number
}
const int8 = 20

export async function missedDeviceLists(sql: ReadSql, { after, upTo }: Range, limit: number): Promise<DeviceListRow[]> {
  const rows = await sql<(Omit<DeviceListRow, 'viewer'> & { viewer: UserId | '' })[]>`
    select position, user_id, viewer from device_list_changes
    where position > ${after} and position <= ${upTo} order by position limit ${limit}`
  return rows.map(({ viewer, ...row }) => ({ ...row, ...(viewer === '' ? undefined : { viewer }) }))
}

export async function missedKeyCounts(sql: ReadSql, { after, upTo }: Range, limit: number): Promise<KeyCountRow[]> {
  const rows = await sql<KeyCountRow[]>`
    select position, user_id, device_id from key_count_changes
    where position > ${after} and position <= ${upTo} order by position limit ${limit}`
  return rows.map((row) => ({ ...row, device_id: fromPgText(row.device_id) as DeviceId }))
}

/** Users whose device lists last changed after `after`, as far as `user` may know: those joined to one of `rooms`, the user
 *  themself, and who changed for this user's eyes alone. What changed again after the end of a range is told with the next
 *  one, so there is no end here; telling it twice does no harm. */
export async function changedDeviceLists(
  sql: ReadSql,
  user: UserId,
  rooms: readonly number[],
  after: number,
): Promise<UserId[]> {
  const rows = await sql<{ user_id: UserId }[]>`
    select c.user_id from device_list_changes c
    where c.position > ${after} and (c.viewer = ${user} or (c.viewer = '' and (c.user_id = ${user} or exists (
      select from memberships m where m.user_id = c.user_id and m.membership = 'join'
        and m.room_nid = any(${sql.array([...rooms], int8)}::bigint[])))))
    group by c.user_id`
  return rows.map((row) => row.user_id)
}

/** Where the user's devices or keys last changed, in stream device_lists; 0 if never. */
export async function deviceListPosition(sql: ReadSql, user: UserId): Promise<number> {
  const [row] = await sql<{ position: number }[]>`
    select position from device_list_changes where user_id = ${user} and viewer = ''`
  return row?.position ?? 0
}

export interface KeyCounts {
  /** Unclaimed one-time keys by algorithm. */
  readonly one_time: Readonly<Record<string, number>>
  /** Algorithms whose fallback key was not given out yet. */
  readonly unused_fallback: readonly string[]
  /** Where they last changed, in stream key_counts; 0 if never. */
  readonly position: number
}

/** The algorithm that clients look for; they take its absence for an unknown count. */
const usual = 'signed_curve25519'

/** What a device has left to be claimed. https://spec.matrix.org/v1.19/client-server-api/#e2e-extensions-to-sync */
export async function keyCountsOf(sql: ReadSql, user_id: UserId, device_id: string): Promise<KeyCounts> {
  const device = pgText(device_id)
  const rows = await sql<{ kind: 'position' | 'one_time' | 'fallback'; algorithm: string; n: number }[]>`
    select 'position' as kind, '' as algorithm, position as n from key_count_changes
      where user_id = ${user_id} and device_id = ${device}
    union all
    select 'one_time', algorithm, count(*) from one_time_keys
      where user_id = ${user_id} and device_id = ${device} group by algorithm
    union all
    select 'fallback', algorithm, 0 from fallback_keys
      where user_id = ${user_id} and device_id = ${device} and not used
    order by algorithm`
  const counts = new Map([[usual, 0]])
  const unused_fallback: string[] = []
  let position = 0
  for (const { kind, algorithm, n } of rows) {
    if (kind === 'position') position = n
    else if (kind === 'one_time') counts.set(fromPgText(algorithm), n)
    else unused_fallback.push(fromPgText(algorithm))
  }
  return { one_time: Object.fromEntries(counts), unused_fallback, position }
}
