/** A server that did not answer lives: it is tried again at once. */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { Committer } from '../../persist/writes.ts'

export function serverAliveHandler({
  sql,
  committer,
}: {
  readonly sql: MainSql
  readonly committer: Committer
}): MainClient['serverAlive'] {
  return async ({ server_name }) => {
    const [failing] = await sql`select from destinations where server_name = ${server_name} and attempts > 0`
    if (!failing) return {}
    await committer.commit({
      also: (tx) => [
        tx`update destinations set attempts = 0, failing_since_ts = null, retry_ts = null
          where server_name = ${server_name} and attempts > 0`,
      ],
      invalidations: [{ cache: 'destination', key: server_name }],
    })
    return {}
  }
}
