/** EDUs that must arrive, whatever happens meanwhile: they wait in table outbound_edus, and go to their server in the order in
 *  which they were written. https://spec.matrix.org/v1.19/server-server-api/#edus */
import { shardOf } from '../../../shared/commands/shards.ts'
import type { ServerName } from '../../../shared/matrix/ids.ts'
import type { Writes } from '../persist/writes.ts'

export interface OutboundEdu {
  readonly server_name: ServerName
  readonly edu_type: string
  /** JSON text of the EDU's content. */
  readonly content: string
}

/** What a commit has to hold for these to be sent; join it with the commit that they belong to. */
export function outboundEdus(edus: readonly OutboundEdu[]): Writes {
  if (edus.length === 0) return {}
  const servers = [...new Set(edus.map((edu) => edu.server_name))]
  const destinations = servers.map((server_name) => ({ server_name, shard: shardOf(server_name) }))
  return {
    also: (tx) => [
      // One that was never sent to is at the end of what has happened.
      tx`insert into destinations (server_name, shard, cursor)
        select server_name, shard, (select position from streams where name = 'events')
        from jsonb_to_recordset(${JSON.stringify(destinations)}::text::jsonb) as x(server_name text, shard smallint)
        on conflict do nothing`,
      tx`insert into outbound_edus (server_name, edu_type, content)
        select server_name, edu_type, content
        from rows from (
          jsonb_to_recordset(${JSON.stringify(edus)}::text::jsonb) as (server_name text, edu_type text, content text)
        ) with ordinality as x(server_name, edu_type, content, place) order by place`,
    ],
    invalidations: servers.map((key) => ({ cache: 'destination' as const, key })),
  }
}
