/** Reads of the keys of other servers. */
import type { ServerKey } from '../federation/key-document.ts'
import type { ServerName } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

/** All keys of these servers that are known, by server. */
export async function serverKeysOf(
  sql: ReadSql,
  servers: readonly ServerName[],
): Promise<Map<ServerName, ServerKey[]>> {
  const rows = await sql<(ServerKey & { server_name: ServerName })[]>`
    select server_name, key_id, public_key, valid_until_ts, expired_ts from server_keys
    where server_name = any(${sql.array([...servers], 25)}::text[])`
  const keys = new Map<ServerName, ServerKey[]>()
  for (const { server_name, ...key } of rows) {
    const known = keys.get(server_name)
    if (known) known.push(key)
    else keys.set(server_name, [key])
  }
  return keys
}

export interface StoredKeyDocument {
  readonly server_name: ServerName
  /** JSON text. */
  readonly document: string
  readonly valid_until_ts: number
}

/** What these servers published last, where they were asked. */
export function keyDocumentsOf(sql: ReadSql, servers: readonly ServerName[]): Promise<StoredKeyDocument[]> {
  return sql<StoredKeyDocument[]>`
    select server_name, document, valid_until_ts from server_key_documents
    where server_name = any(${sql.array([...servers], 25)}::text[])`
}
