/** The published room directory, this server's and others'. https://spec.matrix.org/v1.19/client-server-api/#published-room-directory */
import * as v from 'valibot'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { ServerName } from '../../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { DirectoryBody, directoryLimits, directoryPage, searchOfDirectory } from '../../../shared/rooms/public-rooms.ts'
import { type ClientDeps, route } from '../deps.ts'
import { limitOf } from './parameters.ts'

const text = v.optional(v.string())
const spec = 'client-server-api/#get_matrixclientv3publicrooms'
const answerBytesMax = 4 * 1024 * 1024
const remotePath = '/_matrix/federation/v1/publicRooms'

export const getPublicRooms = route({
  method: 'GET',
  path: '/_matrix/client/v3/publicRooms',
  spec,
  auth: 'optional',
  limit: 'read',
  query: v.object({ limit: text, since: text, server: text }),
  async handle({ query: { limit, since, server }, user }, deps) {
    if (!user && !deps.config.rooms.public_list_without_login) {
      throw new MatrixError('M_MISSING_TOKEN', 'Log in to see the room directory')
    }
    const most = limitOf(limit, directoryLimits)
    const other = otherServer(deps, server)
    if (!other) return directoryPage(deps.sql, since, { limit: most })
    // Nobody else's server is asked for somebody whom nobody knows.
    if (!user) throw new MatrixError('M_MISSING_TOKEN', "Log in to see other servers' directories")
    const query = new URLSearchParams({ limit: String(most), ...(since ? { since } : {}) })
    return remoteDirectory(deps, other, { method: 'GET', uri: `${remotePath}?${query}` })
  },
})

export const postPublicRooms = route({
  method: 'POST',
  path: '/_matrix/client/v3/publicRooms',
  spec: 'client-server-api/#post_matrixclientv3publicrooms',
  auth: 'guest',
  limit: 'read',
  query: v.object({ server: text }),
  body: DirectoryBody,
  emptyBody: true,
  async handle({ query: { server }, body }, deps) {
    const other = otherServer(deps, server)
    if (other) {
      const limit = Math.min(body.limit ?? directoryLimits.standard, directoryLimits.most)
      return remoteDirectory(deps, other, {
        method: 'POST',
        uri: remotePath,
        body: JSON.parse(JSON.stringify({ ...body, limit })) as JsonObject,
      })
    }
    // No bridged network keeps a directory here.
    if (body.third_party_instance_id) return { chunk: [], total_room_count_estimate: 0 }
    return searchOfDirectory(deps.sql, body)
  },
})

/** undefined: the directory asked for is this server's. */
function otherServer({ config }: ClientDeps, server: string | undefined): ServerName | undefined {
  if (!server || server === config.server_name) return undefined
  const parsed = v.safeParse(ServerName, server)
  if (parsed.success) return parsed.output
  throw new MatrixError('M_INVALID_PARAM', 'Query parameter server is no server name')
}

const RemotePage = v.object({
  chunk: v.pipe(v.array(v.looseObject({ room_id: v.string() })), v.maxLength(1_000)),
  next_batch: text,
  prev_batch: text,
  total_room_count_estimate: v.optional(v.number()),
})

async function remoteDirectory(
  { federation }: ClientDeps,
  server: ServerName,
  request: { readonly method: 'GET' | 'POST'; readonly uri: string; readonly body?: JsonObject },
): Promise<JsonObject> {
  try {
    const answer = await federation.client.json(server, { ...request, limits: { bytesMax: answerBytesMax } })
    const page = v.safeParse(RemotePage, answer)
    if (!page.success || !isJsonObject(page.output)) {
      throw new RemoteError('bad_answer', `${server} answered with something else than a part of its directory`)
    }
    return page.output
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error
    if (error.status === 403) throw new MatrixError('M_FORBIDDEN', `${server} does not show its directory`)
    throw new MatrixError('M_UNKNOWN', error.message, { status: 502 })
  }
}
