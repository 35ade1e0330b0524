/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid */
import * as v from 'valibot'
import type { RequestInfo } from '../../shared/http/route.ts'
import type { StoredMedium } from '../../shared/storage/media.ts'
import { type MediaDeps, route } from './deps.ts'
import { downloadQuery, findMedium, findOpenMedium, mediaParams, nameOf, oldDownloadQuery } from './download.ts'
import { serveContent } from './serve.ts'

const pixels = v.pipe(v.string(), v.regex(/^\d{1,5}$/), v.transform(Number), v.minValue(1))
export const thumbnailQuery = v.object({
  width: pixels,
  height: pixels,
  method: v.optional(v.picklist(['crop', 'scale'])),
  animated: v.optional(v.picklist(['true', 'false'])),
})
type ThumbnailQuery = v.InferOutput<typeof thumbnailQuery>

export const getThumbnail = route({
  method: 'GET',
  path: '/_matrix/client/v1/media/thumbnail/:serverName/:mediaId',
  spec: 'client-server-api/#get_matrixclientv1mediathumbnailservernamemediaid',
  auth: 'guest',
  limit: 'media_download',
  params: mediaParams,
  query: v.object({ ...downloadQuery.entries, ...thumbnailQuery.entries }),
  async handle({ params, query, request }, deps) {
    const medium = await findMedium(nameOf(params), { timeout_ms: query.timeout_ms, remote: true }, request, deps)
    return serveThumbnail(medium, query, { open: false, redirects: true }, request, deps)
  },
})

export const getOldThumbnail = route({
  method: 'GET',
  path: '/_matrix/media/v3/thumbnail/:serverName/:mediaId',
  spec: 'client-server-api/#get_matrixmediav3thumbnailservernamemediaid',
  auth: 'none',
  limit: 'media_download',
  params: mediaParams,
  query: v.object({ ...oldDownloadQuery.entries, ...thumbnailQuery.entries }),
  async handle({ params, query, request }, deps) {
    const { timeout_ms, allow_remote, allow_redirect } = query
    const finding = { timeout_ms, remote: allow_remote !== 'false' }
    const medium = await findOpenMedium(nameOf(params), finding, request, deps)
    return serveThumbnail(medium, query, { open: true, redirects: allow_redirect === 'true' }, request, deps)
  },
})

/** Of a medium, in the size that is made for the one asked for. */
export function thumbnailFor(medium: StoredMedium, query: ThumbnailQuery, deps: Pick<MediaDeps, 'thumbnails'>) {
  const { width, height, method, animated } = query
  return deps.thumbnails.of(medium, { width, height, method, animated: animated === 'true' })
}

/** What a thumbnail is called, by its type. */
export function thumbnailName(content_type: string): string {
  return `thumbnail.${content_type.slice(content_type.indexOf('/') + 1)}`
}

async function serveThumbnail(
  medium: StoredMedium,
  query: ThumbnailQuery,
  how: { readonly open: boolean; readonly redirects: boolean },
  request: RequestInfo,
  deps: MediaDeps,
) {
  const { object_key, size, content_type, sha256 } = await thumbnailFor(medium, query, deps)
  const name = thumbnailName(content_type)
  const content = { object_key, size, content_type, name, etag: `"${sha256}"`, open: how.open }
  return serveContent(content, request, { store: deps.store, redirects: how.redirects })
}
