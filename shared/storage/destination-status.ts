/** How it goes with sending to other servers, for operators. */
import type { ServerName } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

export interface DestinationStatus {
  readonly server_name: ServerName
  /** In stream events: what is for it up to here, it has. */
  readonly cursor: number
  /** Failed in a row. */
  readonly attempts: number
  readonly failing_since_ts: number | null
  /** It is not tried before; null: at any time. */
  readonly retry_ts: number | null
  readonly last_error: string | null
  readonly last_success_ts: number | null
}

export interface WaitingForDestination {
  /** Up to `waitingMax`, and what is more counts no more. */
  readonly events: number
  readonly edus: number
  /** When the oldest waiting event was made; null: none waits. */
  readonly oldest_ts: number | null
}

/** Counting ends here. */
export const waitingMax = 1_000

export const destinationOrders = {
  destination: 'server_name',
  retry_last_ts: 'retry_ts',
  retry_interval: 'attempts',
  failure_ts: 'failing_since_ts',
  last_successful_stream_ordering: 'cursor',
} as const
export type DestinationOrder = keyof typeof destinationOrders

export async function destinationsPage(
  sql: ReadSql,
  page: {
    /** Part of the names. */
    readonly named: string | undefined
    readonly order: DestinationOrder
    readonly descending: boolean
    readonly from: number
    readonly limit: number
  },
): Promise<{ total: number; destinations: DestinationStatus[] }> {
  const named =
    page.named === undefined ? sql`` : sql`where strpos(lower(server_name), ${page.named.toLowerCase()}) > 0`
  const direction = page.descending ? sql`desc nulls last` : sql`asc nulls first`
  const [[count], destinations] = await Promise.all([
    sql<{ total: number }[]>`select count(*)::integer as total from destinations ${named}`,
    sql<DestinationStatus[]>`
      select ${columns(sql)} from destinations ${named}
      order by ${sql(destinationOrders[page.order])} ${direction}, server_name limit ${page.limit} offset ${page.from}`,
  ])
  return { total: count?.total ?? 0, destinations: [...destinations] }
}

export async function destinationStatus(sql: ReadSql, server_name: ServerName): Promise<DestinationStatus | undefined> {
  const [row] = await sql<DestinationStatus[]>`
    select ${columns(sql)} from destinations where server_name = ${server_name}`
  return row
}

/** Those that have been failing for longest. */
export async function failingDestinations(
  sql: ReadSql,
  most: number,
): Promise<{ total: number; failing: number; longest: DestinationStatus[] }> {
  const [[counts], longest] = await Promise.all([
    sql<{ total: number; failing: number }[]>`
      select count(*)::integer as total, count(*) filter (where attempts > 0)::integer as failing from destinations`,
    sql<DestinationStatus[]>`
      select ${columns(sql)} from destinations where attempts > 0 order by failing_since_ts, server_name limit ${most}`,
  ])
  return { total: counts?.total ?? 0, failing: counts?.failing ?? 0, longest: [...longest] }
}

/** What waits for each of these. */
export async function waitingFor(
  sql: ReadSql,
  servers: readonly ServerName[],
): Promise<Map<ServerName, WaitingForDestination>> {
  if (servers.length === 0) return new Map()
  const rows = await sql<(WaitingForDestination & { server_name: ServerName })[]>`
    select d.server_name, due.events, due.oldest_ts, (
        select count(*)::integer from (
          select from outbound_edus u where u.server_name = d.server_name limit ${waitingMax}
        ) counted
      ) as edus
    from destinations d cross join lateral (
      select count(*)::integer as events, min(e.origin_server_ts) as oldest_ts from (
        select o.event_nid from room_servers s join outbound_events o on o.room_nid = s.room_nid
          and o.position >= greatest(d.cursor + 1, s.since) and o.position <= coalesce(s.until, o.position)
          and o.origin <> d.server_name
        where s.server_name = d.server_name limit ${waitingMax}
      ) found join events e using (event_nid)
    ) due
    where d.server_name = any(${sql.array([...servers], 25)}::text[])`
  return new Map(rows.map(({ server_name, ...waiting }) => [server_name, waiting]))
}

/** Rooms that the server is in, and the last event in each that is for it. */
export async function roomsOfDestination(
  sql: ReadSql,
  server_name: ServerName,
  page: { readonly descending: boolean; readonly from: number; readonly limit: number },
): Promise<{ total: number; rooms: { room_id: string; stream_ordering: number }[] }> {
  const direction = page.descending ? sql`desc` : sql`asc`
  const [[count], rooms] = await Promise.all([
    sql<{ total: number }[]>`
      select count(*)::integer as total from room_servers where server_name = ${server_name} and until is null`,
    sql<{ room_id: string; stream_ordering: number }[]>`
      select r.room_id, coalesce((select max(position) from outbound_events o where o.room_nid = s.room_nid), s.since)
        as stream_ordering
      from room_servers s join rooms r using (room_nid)
      where s.server_name = ${server_name} and s.until is null
      order by r.room_id ${direction} limit ${page.limit} offset ${page.from}`,
  ])
  return { total: count?.total ?? 0, rooms: [...rooms] }
}

function columns(sql: ReadSql) {
  return sql`server_name, cursor, attempts, failing_since_ts, retry_ts, last_error, last_success_ts`
}
