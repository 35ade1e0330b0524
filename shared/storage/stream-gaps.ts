/** What a reader of a stream has missed, from the tables: rows at positions in (after, upTo], oldest first. Where a later
 *  row took another's place the other is left out: what is read is what the tables hold now, at the place where it stands. */
import type { AccountDataRow } from '../streams/account-data.ts'
import type { StreamPosition } from '../streams/define.ts'
import type { EventRow, PushDeviation } from '../streams/events.ts'
import type { InvalidationRow } from '../streams/invalidations.ts'
import type { ReceiptRow } from '../streams/receipts.ts'
import type { StreamPositions } from '../streams/registry.ts'
import type { ToDeviceRow } from '../streams/to-device.ts'
import { eventColumns, type StoredEvent, timelineEvents } from './events.ts'
import { fromPgText, type ReadSql } from './sql.ts'

export interface GapRange {
  readonly after: number
  readonly upTo: number
}

export interface StoredPositions {
  readonly positions: Partial<StreamPositions>
  /** Read from a copy of the database that follows it with a delay. */
  readonly replica: boolean
}

/** Where the streams that are kept in Postgres stand. */
export async function storedStreamPositions(sql: ReadSql): Promise<StoredPositions> {
  const rows = await sql<{ name: string; position: StreamPosition; replica: boolean }[]>`
    select name, position, pg_is_in_recovery() as replica from streams`
  return {
    positions: Object.fromEntries(rows.map((row) => [row.name, row.position])),
    replica: rows.some((row) => row.replica),
  }
}

interface GapEvent extends StoredEvent {
  readonly room_id: EventRow['room_id']
  readonly position: StreamPosition
  readonly local_membership: string | null
  readonly prev_membership: string | null
  readonly joined_members: number | null
  readonly invited_members: number | null
  readonly outbound: boolean
}

/** Counts of members are those of today: readers use them to tell small rooms from large ones. */
export async function missedEvents(sql: ReadSql, { after, upTo }: GapRange, limit: number): Promise<EventRow[]> {
  const rows = await sql<GapEvent[]>`
    select ${eventColumns(sql)}, r.room_id, c.membership as local_membership, c.prev_membership, s.joined_members,
      s.invited_members, exists (select from outbound_events o where o.position = e.position) as outbound
    from (select * from events where position > ${after} and position <= ${upTo} order by position limit ${limit}) e
    join rooms r using (room_nid)
    left join membership_changes c on e.type = 'm.room.member' and c.user_id = e.state_key and c.position = e.position
    left join room_summaries s on e.type = 'm.room.member' and s.room_nid = e.room_nid
    order by e.position`
  if (rows.length === 0) return []
  const [events, deviations] = await Promise.all([timelineEvents(sql, rows), deviationsOf(sql, rows)])
  return events.map(({ redacted_because: _, state_root: __, has_children: ___, ...event }, i) => {
    const missed: EventRow = event
    const member = memberOf(rows[i]!, missed)
    const own = deviations.get(missed.position)
    return {
      ...missed,
      ...(member ? { member } : undefined),
      ...(rows[i]!.outbound ? { outbound: true } : undefined),
      ...(own ? { deviations: own } : undefined),
    }
  })
}

/** `membership_changes` holds the local users' changes; of others, what the event itself says. */
function memberOf(row: GapEvent, event: EventRow): EventRow['member'] {
  if (event.type !== 'm.room.member' || event.state_key === undefined) return undefined
  const local = row.local_membership !== null
  const membership = row.local_membership ?? membershipIn(event.content)
  const before = local ? row.prev_membership : event.replaces && membershipIn(event.replaces.content)
  return {
    user_id: event.state_key as NonNullable<EventRow['member']>['user_id'],
    membership,
    ...(before ? { prev_membership: before } : undefined),
    local,
    joined_members: row.joined_members ?? 0,
    invited_members: row.invited_members ?? 0,
  }
}

function membershipIn(content: string): string {
  const { membership } = JSON.parse(content) as { membership?: unknown }
  return typeof membership === 'string' ? membership : 'leave'
}

async function deviationsOf(sql: ReadSql, events: readonly GapEvent[]): Promise<Map<number, PushDeviation[]>> {
  const rows = await sql<(PushDeviation & { position: number })[]>`
    select d.position, d.user_id, d.class_id, d.push
    from unnest(${numbers(sql, events, 'room_nid')}::bigint[], ${numbers(sql, events, 'position')}::bigint[])
      as q(room_nid, position)
    join push_deviations d on d.room_nid = q.room_nid and d.position = q.position`
  const byPosition = new Map<number, PushDeviation[]>()
  for (const { position, ...deviation } of rows) {
    const known = byPosition.get(position)
    if (known) known.push(deviation)
    else byPosition.set(position, [deviation])
  }
  return byPosition
}

function numbers(sql: ReadSql, events: readonly GapEvent[], column: 'room_nid' | 'position') {
  return sql.array(
    events.map((event) => event[column] ?? 0),
    20,
  )
}

export async function missedReceipts(sql: ReadSql, { after, upTo }: GapRange, limit: number): Promise<ReceiptRow[]> {
  const rows = await sql<ReceiptRow[]>`
    select c.position, c.room_nid, r.room_id, c.user_id, c.receipt_type, c.thread_id, c.event_id, c.event_position, c.ts
    from receipts c join rooms r using (room_nid)
    where c.position > ${after} and c.position <= ${upTo} order by c.position limit ${limit}`
  return [...rows]
}

export async function missedAccountData(
  sql: ReadSql,
  { after, upTo }: GapRange,
  limit: number,
): Promise<AccountDataRow[]> {
  const rows = await sql<(Omit<AccountDataRow, 'room_id'> & { room_id: AccountDataRow['room_id'] | null })[]>`
    select a.position, a.user_id, a.room_nid, r.room_id, a.type, a.content
    from account_data a left join rooms r using (room_nid)
    where a.position > ${after} and a.position <= ${upTo} order by a.position limit ${limit}`
  return rows.map(({ room_id, ...row }) => ({
    ...row,
    type: fromPgText(row.type),
    ...(room_id ? { room_id } : undefined),
  }))
}

/** What was acknowledged meanwhile is left out: its device has it. */
export async function missedToDevice(sql: ReadSql, { after, upTo }: GapRange, limit: number): Promise<ToDeviceRow[]> {
  const rows = await sql<ToDeviceRow[]>`
    select position, user_id, device_id from to_device
    where position > ${after} and position <= ${upTo} order by position limit ${limit}`
  return rows.map((row) => ({ ...row, device_id: fromPgText(row.device_id) as ToDeviceRow['device_id'] }))
}

/** Every invalidation is kept for a while. Throws GapTooOldError where the first of the gap is not there any more. */
export async function missedInvalidations(
  sql: ReadSql,
  { after, upTo }: GapRange,
  limit: number,
): Promise<InvalidationRow[]> {
  const rows = await sql<InvalidationRow[]>`
    select position, cache, key from invalidations
    where position > ${after} and position <= ${upTo} order by position limit ${limit}`
  if (rows[0]?.position !== after + 1) throw new GapTooOldError('invalidations', after)
  return rows.map((row) => ({ ...row, key: fromPgText(row.key) }))
}

/** What was missed is not kept any more: nothing that was remembered can be trusted. */
export class GapTooOldError extends Error {
  constructor(stream: string, after: number) {
    super(`stream ${stream}: what came after position ${after} is no longer kept`)
    this.name = 'GapTooOldError'
  }
}
