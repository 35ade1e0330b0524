/** The room of an alias, wherever the alias is kept. https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1querydirectory */
import * as v from 'valibot'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { type RoomAlias, RoomId, ServerName, serverNameOf } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { roomOfAlias } from '../../../shared/storage/aliases.ts'
import type { ClientDeps } from '../deps.ts'

export interface AliasedRoom {
  readonly room_id: RoomId
  /** That are in the room. */
  readonly servers: readonly ServerName[]
}

const directoryAnswer = v.object({ room_id: RoomId, servers: v.array(v.string()) })
const serversMax = 50

/** undefined: there is no such alias. Throws M_UNKNOWN with status 502 where its server does not say. */
export async function lookUpAlias(
  { sql, config, federation }: Pick<ClientDeps, 'sql' | 'config' | 'federation'>,
  alias: RoomAlias,
): Promise<AliasedRoom | undefined> {
  const server = serverNameOf(alias)
  if (server === config.server_name) {
    const room_id = await roomOfAlias(sql, alias)
    return room_id && { room_id, servers: [config.server_name] }
  }
  if (!v.is(ServerName, server)) return undefined
  try {
    const uri = `/_matrix/federation/v1/query/directory?room_alias=${encodeURIComponent(alias)}`
    const parsed = v.safeParse(
      directoryAnswer,
      await federation.client.json(server as ServerName, { method: 'GET', uri }),
    )
    if (!parsed.success) throw new RemoteError('bad_answer', `${server} answered about the alias with something else`)
    const { room_id, servers } = parsed.output
    return {
      room_id,
      servers: servers.flatMap((name) => (v.is(ServerName, name) ? [name as ServerName] : [])).slice(0, serversMax),
    }
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error
    if (error.status === 404) return undefined
    throw new MatrixError('M_UNKNOWN', error.message, { status: 502 })
  }
}
