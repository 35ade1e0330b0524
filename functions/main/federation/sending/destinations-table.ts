/** Tables destinations, outbound_events, outbound_edus and outbound_transactions, for the sender: everything for many
 *  destinations at a time. What is written holds only where the row is as this process knows it; a main whose shard moved
 *  changes nothing. */
import type { ServerName, UserId } from '../../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'

export interface DestinationRow {
  readonly server_name: ServerName
  readonly cursor: number
  readonly transaction_id: string | null
  readonly transaction_upto: number | null
  readonly attempts: number
  readonly retry_ts: number | null
  readonly has_edus: boolean
}
export interface DueEvent {
  readonly position: number
  readonly event_nid: number
}
export interface DueEdu {
  readonly edu_id: number
  readonly edu_type: string
  readonly content: string
}
export interface StoredTransaction {
  readonly server_name: ServerName
  readonly transaction_id: string
  /** The destination's cursor, as it is known here. */
  readonly cursor: number
  readonly upto: number
  readonly last_edu: number | undefined
}

/** Events and EDUs in a transaction. https://spec.matrix.org/v1.19/server-server-api/#transactions */
export const pdusMax = 50
export const edusMax = 100

export type DestinationsTable = ReturnType<typeof destinationsTable>

export function destinationsTable(sql: MainSql) {
  const texts = (values: readonly string[]) => sql.array([...values], 25)
  const numbers = (values: readonly number[]) => sql.array([...values], 20)
  const columns = sql`d.server_name, d.cursor, d.transaction_id, d.transaction_upto, d.attempts, d.retry_ts,
    exists (select from outbound_edus u where u.server_name = d.server_name) as has_edus`

  return {
    rows(servers: readonly ServerName[]): Promise<DestinationRow[]> {
      return sql<DestinationRow[]>`
        select ${columns} from destinations d where d.server_name = any(${texts(servers)}::text[])`
    },

    /** Servers that share a room with one of these users of ours. */
    async waitingForUpdatesOf(users: readonly UserId[]): Promise<ServerName[]> {
      const rows = await sql<{ server_name: ServerName }[]>`
        select distinct s.server_name from unnest(${texts(users)}::text[]) as u(user_id)
        cross join lateral servers_sharing(u.user_id) as s(server_name)`
      return rows.map((row) => row.server_name)
    },

    /** A page of those of the shards, by name, that something waits for; events up to a position. */
    waiting(
      shards: readonly number[],
      page: { after: string; upTo: number; limit: number },
    ): Promise<DestinationRow[]> {
      return sql<DestinationRow[]>`
        select * from (
          select ${columns},
            d.transaction_id is not null or exists (
              select from room_servers s cross join lateral (
                select from outbound_events o where o.room_nid = s.room_nid and o.origin <> s.server_name
                  and o.position >= greatest(d.cursor + 1, s.since)
                  and o.position <= least(coalesce(s.until, ${page.upTo}), ${page.upTo}) limit 1
              ) one where s.server_name = d.server_name
            ) or exists (
              select from outbound_events o
              where o.also_to = d.server_name and o.position > d.cursor and o.position <= ${page.upTo}
            ) as has_more
          from destinations d where d.shard = any(${numbers(shards)}::bigint[]) and d.server_name > ${page.after}
        ) found where has_edus or has_more order by server_name limit ${page.limit}`
    },

    /** Which servers the events at these positions are for, of all shards. */
    async addressees(
      positions: readonly number[],
    ): Promise<{ position: number; event_nid: number; servers: ServerName[] }[]> {
      const first = Math.min(...positions)
      const events = await sql<
        { position: number; room_nid: number; event_nid: number; origin: string; also_to: ServerName | null }[]
      >`
        select position, room_nid, event_nid, origin, also_to from outbound_events
        where position = any(${numbers(positions)}::bigint[]) order by position`
      const rooms = [...new Set(events.map((event) => event.room_nid))]
      const servers = await sql<{ room_nid: number; server_name: ServerName; since: number; until: number | null }[]>`
        select room_nid, server_name, since, until from room_servers
        where room_nid = any(${numbers(rooms)}::bigint[]) and (until is null or until >= ${first})`
      const byRoom = Map.groupBy(servers, (server) => server.room_nid)
      return events.map(({ position, room_nid, event_nid, origin, also_to }) => {
        const found = new Set<ServerName>(also_to === null ? [] : [also_to])
        for (const { server_name, since, until } of byRoom.get(room_nid) ?? []) {
          if (since <= position && (until === null || until >= position) && server_name !== origin)
            found.add(server_name)
        }
        return { position, event_nid, servers: [...found] }
      })
    },

    /** The first events that each of them is still to have, at positions in (after, upTo]: at most `pdusMax`, in order. */
    async events(
      wanted: readonly { server_name: ServerName; after: number; upTo: number }[],
    ): Promise<Map<ServerName, DueEvent[]>> {
      const rows = await sql<(DueEvent & { server_name: ServerName })[]>`
        select x.server_name, due.position, due.event_nid
        from (select unnest(${texts(wanted.map((one) => one.server_name))}::text[]) as server_name,
          unnest(${numbers(wanted.map((one) => one.after))}::bigint[]) as after,
          unnest(${numbers(wanted.map((one) => one.upTo))}::bigint[]) as upto) x
        cross join lateral (
          select position, event_nid from (
            select o.position, o.event_nid from room_servers s cross join lateral (
              select position, event_nid from outbound_events o
              where o.room_nid = s.room_nid and o.position >= greatest(x.after + 1, s.since)
                and o.position <= least(coalesce(s.until, x.upto), x.upto) and o.origin <> x.server_name
              order by position limit ${pdusMax}
            ) o where s.server_name = x.server_name
            union
            select position, event_nid from outbound_events o
            where o.also_to = x.server_name and o.position > x.after and o.position <= x.upto
          ) found order by position limit ${pdusMax}
        ) due order by x.server_name, due.position`
      return grouped(rows)
    },

    /** The first EDUs that wait for each of them: at most `edusMax`, in order. */
    async edus(servers: readonly ServerName[]): Promise<Map<ServerName, DueEdu[]>> {
      const rows = await sql<(DueEdu & { server_name: ServerName })[]>`
        select x.server_name, due.edu_id, due.edu_type, due.content
        from unnest(${texts(servers)}::text[]) as x(server_name)
        cross join lateral (
          select edu_id, edu_type, content from outbound_edus u
          where u.server_name = x.server_name order by edu_id limit ${edusMax}
        ) due order by x.server_name, due.edu_id`
      return grouped(rows)
    },

    parts(nids: readonly number[]): Promise<{ event_nid: number; envelope: string; content: string }[]> {
      return sql<{ event_nid: number; envelope: string; content: string }[]>`
        select event_nid, envelope, content from events where event_nid = any(${numbers(nids)}::bigint[])`
    },

    bodies(ids: readonly string[]): Promise<{ transaction_id: string; body: string }[]> {
      return sql<{ transaction_id: string; body: string }[]>`
        select transaction_id, body from outbound_transactions where transaction_id = any(${texts(ids)}::text[])`
    },

    /** Before anything is sent. Returns those whose row was as it was said to be; the others' transactions do not exist. */
    async begin(
      bodies: readonly { transaction_id: string; body: string }[],
      transactions: readonly StoredTransaction[],
      now: number,
    ): Promise<Set<ServerName>> {
      const rows = await sql<{ server_name: ServerName }[]>`
        with stored as (
          insert into outbound_transactions (transaction_id, body, created_ts)
          select transaction_id, body, ${now}::bigint
          from (select unnest(${texts(bodies.map((one) => one.transaction_id))}::text[]) as transaction_id,
            unnest(${texts(bodies.map((one) => one.body))}::text[]) as body) x
        )
        update destinations d set transaction_id = x.transaction_id, transaction_upto = x.upto, transaction_edu = x.last_edu
        from (select unnest(${texts(transactions.map((one) => one.server_name))}::text[]) as server_name,
          unnest(${texts(transactions.map((one) => one.transaction_id))}::text[]) as transaction_id,
          unnest(${numbers(transactions.map((one) => one.cursor))}::bigint[]) as cursor,
          unnest(${numbers(transactions.map((one) => one.upto))}::bigint[]) as upto,
          unnest(${numbers(transactions.map((one) => one.last_edu ?? 0))}::bigint[]) as last_edu) x
        where d.server_name = x.server_name and d.transaction_id is null and d.cursor = x.cursor
        returning d.server_name`
      return new Set(rows.map((row) => row.server_name))
    },

    /** They have the transactions. */
    async delivered(done: readonly { server_name: ServerName; transaction_id: string }[], now: number): Promise<void> {
      await sql`
        with done as (
          select d.server_name, d.transaction_edu
          from (select unnest(${texts(done.map((one) => one.server_name))}::text[]) as server_name,
            unnest(${texts(done.map((one) => one.transaction_id))}::text[]) as transaction_id) x
          join destinations d on d.server_name = x.server_name and d.transaction_id = x.transaction_id
          for update of d
        ), arrived as (
          delete from outbound_edus u using done
          where u.server_name = done.server_name and u.edu_id <= done.transaction_edu
        )
        update destinations d set cursor = greatest(cursor, transaction_upto), transaction_id = null,
          transaction_upto = null, transaction_edu = null, attempts = 0, failing_since_ts = null, retry_ts = null,
          last_error = null, last_success_ts = ${now}
        from done where d.server_name = done.server_name`
    },

    async failed(
      failures: readonly { server_name: ServerName; attempts: number; retry_ts: number; error: string }[],
      now: number,
    ): Promise<void> {
      await sql`
        update destinations d set attempts = x.attempts, retry_ts = x.retry_ts, last_error = x.error,
          failing_since_ts = coalesce(failing_since_ts, ${now}::bigint)
        from (select unnest(${texts(failures.map((one) => one.server_name))}::text[]) as server_name,
          unnest(${numbers(failures.map((one) => one.attempts))}::bigint[]) as attempts,
          unnest(${numbers(failures.map((one) => one.retry_ts))}::bigint[]) as retry_ts,
          unnest(${texts(failures.map((one) => one.error))}::text[]) as error) x
        where d.server_name = x.server_name`
    },

    /** A transaction of which nothing was stored reached a server that had failed before. */
    async answered(servers: readonly ServerName[], now: number): Promise<void> {
      await sql`
        update destinations set attempts = 0, failing_since_ts = null, retry_ts = null, last_error = null,
          last_success_ts = ${now}
        where server_name = any(${texts(servers)}::text[])`
    },

    /** Those of the shards that nothing waits for have everything up to the position. What all have come past goes. */
    async tidy(shards: readonly number[], busy: readonly ServerName[], upTo: number, olderThan: number): Promise<void> {
      await sql`
        update destinations set cursor = ${upTo}
        where shard = any(${numbers(shards)}::bigint[]) and cursor < ${upTo} and transaction_id is null
          and server_name <> all(${texts(busy)}::text[])`
      await sql`
        delete from outbound_transactions t where created_ts < ${olderThan}
          and not exists (select from destinations d where d.transaction_id = t.transaction_id)`
      await sql`delete from outbound_events where position <= (select min(cursor) from destinations)`
      await sql`delete from room_servers where until <= (select min(cursor) from destinations)`
    },
  }
}

function grouped<Row extends { readonly server_name: ServerName }>(rows: readonly Row[]): Map<ServerName, Row[]> {
  return Map.groupBy(rows, (row) => row.server_name)
}
