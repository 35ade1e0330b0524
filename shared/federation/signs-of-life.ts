/** A server that asks something lives: what waits for it is sent at once, however long it did not answer.
 *  https://spec.matrix.org/v1.19/server-server-api/#transactions */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../clock.ts'
import type { MainClient } from '../commands/registry.ts'
import type { ServerName } from '../matrix/ids.ts'
import { isFailing } from '../storage/destinations.ts'
import type { ReadSql } from '../storage/sql.ts'
import type { AuthenticateServer } from './server-authentication.ts'

/** So often it is looked whether a server that asks counts as dead, at most. */
const lookEveryMs = 1_000
const serversMax = 10_000

/** The same authentication, which tells main of those whom it takes for dead. Requests do not wait for that. */
export function withSignsOfLife(
  authenticate: AuthenticateServer,
  deps: {
    readonly sql: ReadSql
    readonly clock: Clock
    readonly main: Pick<MainClient, 'serverAlive'>
    readonly onError: (error: unknown) => void
  },
): AuthenticateServer {
  const { sql, clock, main, onError } = deps
  const looked = new LRUCache<ServerName, number>({ maxSize: serversMax, sizeCalculation: () => 1 })

  async function look(server_name: ServerName): Promise<void> {
    if (await isFailing(sql, server_name)) await main.serverAlive({ server_name })
  }

  return async (request) => {
    const server = await authenticate(request)
    const now = clock.now()
    if (now - (looked.get(server) ?? 0) >= lookEveryMs) {
      looked.set(server, now)
      look(server).catch(onError)
    }
    return server
  }
}
