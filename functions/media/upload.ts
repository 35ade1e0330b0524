/** Uploads. https://spec.matrix.org/v1.19/client-server-api/#post_matrixmediav3upload */
import * as v from 'valibot'
import { MediaId } from '../../shared/commands/media.ts'
import type { RequestInfo } from '../../shared/http/route.ts'
import { ServerName, type UserId } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { isAwaited, mediumOf } from '../../shared/storage/media.ts'
import { safeContentType, safeFileName } from './content-headers.ts'
import { type MediaDeps, route } from './deps.ts'
import { newMediaId, tooLarge, type Upload } from './uploads.ts'

const query = v.object({ filename: v.optional(v.string()) })

export const postUpload = route({
  method: 'POST',
  path: '/_matrix/media/v3/upload',
  spec: 'client-server-api/#post_matrixmediav3upload',
  auth: 'user',
  limit: 'media_upload',
  query,
  async handle({ query: { filename }, user, request }, deps) {
    const upload = uploadOf(request, filename, user.user_id, deps)
    const { mxc_uri } = await deps.uploads.store(upload)
    return { content_uri: mxc_uri }
  },
})

export const postCreate = route({
  method: 'POST',
  path: '/_matrix/media/v1/create',
  spec: 'client-server-api/#post_matrixmediav1create',
  auth: 'user',
  limit: 'media_upload',
  async handle({ user }, { main, config }) {
    const name = { origin: config.server_name, media_id: newMediaId() }
    const { expires_ts } = await main.createMedia({ ...name, user_id: user.user_id })
    return { content_uri: `mxc://${name.origin}/${name.media_id}`, unused_expires_at: expires_ts }
  },
})

export const putUpload = route({
  method: 'PUT',
  path: '/_matrix/media/v3/upload/:serverName/:mediaId',
  spec: 'client-server-api/#put_matrixmediav3uploadservernamemediaid',
  auth: 'user',
  limit: 'media_upload',
  params: v.object({ serverName: ServerName, mediaId: MediaId }),
  query,
  async handle({ params: { serverName, mediaId }, query: { filename }, user, request }, deps) {
    const name = { origin: serverName, media_id: mediaId }
    await mustAwait(name, user.user_id, deps)
    const upload = uploadOf(request, filename, user.user_id, deps)
    await deps.uploads.store({ ...upload, as: { ...name, ahead: true } })
    return {}
  },
})

/** Before the body is taken in; the command looks at it again. */
async function mustAwait(
  name: { readonly origin: ServerName; readonly media_id: MediaId },
  user_id: UserId,
  { sql, config, clock }: MediaDeps,
): Promise<void> {
  const medium = name.origin === config.server_name ? await mediumOf(sql, name) : undefined
  if (!medium) throw new MatrixError('M_NOT_FOUND', 'This mxc:// URI was not made for an upload, or has expired')
  if (medium.user_id !== user_id) throw new MatrixError('M_FORBIDDEN', 'This mxc:// URI was made by another user')
  if (!isAwaited(medium)) throw new MatrixError('M_CANNOT_OVERWRITE_MEDIA', 'This mxc:// URI has its content already')
  if (medium.expires_ts <= clock.now()) throw new MatrixError('M_NOT_FOUND', 'This mxc:// URI has expired')
}

function uploadOf(
  request: RequestInfo,
  filename: string | undefined,
  user_id: UserId,
  { config }: Pick<MediaDeps, 'config'>,
): Upload {
  const bytesMax = config.media.max_upload_size
  const size = contentLength(request)
  if (size !== undefined && size > bytesMax) throw tooLarge(bytesMax)
  return {
    bytes: request.body(),
    size,
    bytesMax,
    content_type: safeContentType(request.header('content-type')),
    upload_name: safeFileName(filename),
    user_id,
    kind: 'upload',
  }
}

/** Undefined for a body that comes in chunks. */
function contentLength(request: RequestInfo): number | undefined {
  const length = request.header('content-length')
  if (length !== undefined && /^\d{1,15}$/.test(length)) return Number(length)
  return request.header('transfer-encoding') === undefined ? 0 : undefined
}
