/** Keys of other servers. https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys */
import type { Clock } from '../../../../shared/clock.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { Committer } from '../../persist/writes.ts'

export function serverKeyHandlers({
  committer,
  clock,
}: {
  readonly committer: Committer
  readonly clock: Clock
}): Pick<MainClient, 'storeServerKeys'> {
  return {
    async storeServerKeys({ servers }) {
      // In one order for all, so that two of them do not wait for each other's rows.
      const ordered = servers.toSorted((a, b) => (a.server_name < b.server_name ? -1 : 1))
      const keys = ordered.flatMap(({ server_name, keys }) => keys.map((key) => ({ server_name, ...key })))
      const documents = ordered.map(({ server_name, document, valid_until_ts }) => ({
        server_name,
        document: JSON.stringify(document),
        valid_until_ts,
        fetched_ts: clock.now(),
      }))
      if (documents.length === 0) return {}
      await committer.commit({
        also: (tx) => [
          ...(keys.length === 0
            ? []
            : [
                tx`insert into server_keys ${tx(keys, 'server_name', 'key_id', 'public_key', 'valid_until_ts', 'expired_ts')}
                  on conflict (server_name, key_id) do update set public_key = excluded.public_key,
                    valid_until_ts = excluded.valid_until_ts, expired_ts = excluded.expired_ts`,
              ]),
          tx`insert into server_key_documents ${tx(documents, 'server_name', 'document', 'valid_until_ts', 'fetched_ts')}
            on conflict (server_name) do update set document = excluded.document,
              valid_until_ts = excluded.valid_until_ts, fetched_ts = excluded.fetched_ts`,
        ],
      })
      return {}
    },
  }
}
