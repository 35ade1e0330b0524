/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url */
import * as v from 'valibot'
import type { RequestInfo } from '../../../shared/http/route.ts'
import { type MediaDeps, route } from '../deps.ts'

/** The point in time that may be asked for is left aside: there is one preview of a page at a time. */
const query = v.object({ url: v.string(), ts: v.optional(v.pipe(v.string(), v.regex(/^\d{1,16}$/))) })
const declaration = { method: 'GET', auth: 'user', limit: 'url_preview', query } as const

export const getUrlPreview = route({
  ...declaration,
  path: '/_matrix/client/v1/media/preview_url',
  spec: 'client-server-api/#get_matrixclientv1mediapreview_url',
  handle,
})

export const getOldUrlPreview = route({
  ...declaration,
  path: '/_matrix/media/v3/preview_url',
  spec: 'client-server-api/#get_matrixmediav3preview_url',
  handle,
})

function handle(
  { query: { url }, request }: { readonly query: { readonly url: string }; readonly request: RequestInfo },
  { previews }: MediaDeps,
): Promise<object> {
  return previews.of(url, request.header('accept-language'))
}

export const previewRoutes = [getUrlPreview, getOldUrlPreview] as const
