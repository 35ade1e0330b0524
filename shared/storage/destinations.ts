/** Reads of how it goes with sending to other servers. */
import type { ServerName } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

/** Those of the servers that did not answer lately and are not asked again yet: who needs one of several answers leaves them
 *  for last. A sign of life takes a server from among them. */
export async function silentServers(
  sql: ReadSql,
  servers: readonly ServerName[],
  now: number,
): Promise<Set<ServerName>> {
  if (servers.length === 0) return new Set()
  const rows = await sql<{ server_name: ServerName }[]>`
    select server_name from destinations
    where server_name = any(${sql.array([...servers], 25)}::text[]) and retry_ts > ${now}`
  return new Set(rows.map((row) => row.server_name))
}

/** Whether the last attempt to send to the server failed. */
export async function isFailing(sql: ReadSql, server_name: ServerName): Promise<boolean> {
  const [row] = await sql`select from destinations where server_name = ${server_name} and attempts > 0`
  return row !== undefined
}
