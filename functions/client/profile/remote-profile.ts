/** Profiles of other servers' users. https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1queryprofile */
import * as v from 'valibot'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import { ServerName, serverNameOf, type UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { ClientDeps } from '../deps.ts'

const answerBytesMax = 128 * 1024
const totalMs = 20_000

/** Throws M_NOT_FOUND where that server has no such user, and M_UNKNOWN with status 502 where it does not say. */
export async function remoteProfile({ federation }: ClientDeps, user_id: UserId): Promise<JsonObject> {
  const server = v.safeParse(ServerName, serverNameOf(user_id))
  if (!server.success) throw new MatrixError('M_NOT_FOUND', 'There is no profile of this user')
  try {
    return withoutNulls(
      await federation.client.json(server.output, {
        method: 'GET',
        uri: `/_matrix/federation/v1/query/profile?user_id=${encodeURIComponent(user_id)}`,
        limits: { bytesMax: answerBytesMax, totalMs },
      }),
    )
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error
    if (error.status === 404) throw new MatrixError('M_NOT_FOUND', 'There is no profile of this user')
    if (error.status === 403) throw new MatrixError('M_FORBIDDEN', 'The profile of this user is not shown')
    throw new MatrixError('M_UNKNOWN', error.message, { status: 502 })
  }
}

/** What is set, as far as it can be shown. */
function withoutNulls(answer: JsonObject): JsonObject {
  const { displayname, avatar_url, ...fields } = answer
  return {
    ...(typeof displayname === 'string' ? { displayname } : {}),
    ...(typeof avatar_url === 'string' ? { avatar_url } : {}),
    ...fields,
  }
}
