/** Downloads. https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediadownloadservernamemediaid */
import * as v from 'valibot'
import { MediaId, type MediaName } from '../../shared/commands/media.ts'
import type { RequestInfo } from '../../shared/http/route.ts'
import { ServerName } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { NoSuchObjectError } from '../../shared/media/store.ts'
import type { StoredMedium } from '../../shared/storage/media.ts'
import { safeFileName } from './content-headers.ts'
import { type MediaDeps, route } from './deps.ts'
import { serveContent } from './serve.ts'

const timeoutMsDefault = 20_000
const timeoutMsMax = 60_000

export const mediaParams = v.object({ serverName: ServerName, mediaId: MediaId })
const namedParams = v.object({ ...mediaParams.entries, fileName: v.string() })
/** Of a text that is no number, what the specification says of none. */
const timeoutMs = v.optional(
  v.pipe(
    v.string(),
    v.transform((text) => (/^\d{1,15}$/.test(text) ? Math.min(Number(text), timeoutMsMax) : timeoutMsDefault)),
  ),
)
export const downloadQuery = v.object({ timeout_ms: timeoutMs })
/** Of the old endpoints. */
const flag = v.optional(v.picklist(['true', 'false']))
export const oldDownloadQuery = v.object({
  ...downloadQuery.entries,
  allow_remote: flag,
  allow_redirect: flag,
})

const download = {
  method: 'GET',
  spec: 'client-server-api/#get_matrixclientv1mediadownloadservernamemediaid',
  auth: 'guest',
  limit: 'media_download',
  query: downloadQuery,
} as const
const oldDownload = {
  method: 'GET',
  spec: 'client-server-api/#get_matrixmediav3downloadservernamemediaid',
  auth: 'none',
  limit: 'media_download',
  query: oldDownloadQuery,
} as const

export const getDownload = route({
  ...download,
  path: '/_matrix/client/v1/media/download/:serverName/:mediaId',
  params: mediaParams,
  handle: ({ params, query, request }, deps) => authenticated(params, undefined, query, request, deps),
})
export const getDownloadAs = route({
  ...download,
  path: '/_matrix/client/v1/media/download/:serverName/:mediaId/:fileName',
  params: namedParams,
  handle: ({ params, query, request }, deps) => authenticated(params, params.fileName, query, request, deps),
})
export const getOldDownload = route({
  ...oldDownload,
  path: '/_matrix/media/v3/download/:serverName/:mediaId',
  params: mediaParams,
  handle: ({ params, query, request }, deps) => unauthenticated(params, undefined, query, request, deps),
})
export const getOldDownloadAs = route({
  ...oldDownload,
  path: '/_matrix/media/v3/download/:serverName/:mediaId/:fileName',
  params: namedParams,
  handle: ({ params, query, request }, deps) => unauthenticated(params, params.fileName, query, request, deps),
})

type Params = v.InferOutput<typeof mediaParams>

async function authenticated(
  params: Params,
  fileName: string | undefined,
  query: v.InferOutput<typeof downloadQuery>,
  request: RequestInfo,
  deps: MediaDeps,
) {
  const medium = await findMedium(nameOf(params), { ...query, remote: true }, request, deps)
  return serveMedium(medium, { fileName, open: false, redirects: true }, request, deps)
}

async function unauthenticated(
  params: Params,
  fileName: string | undefined,
  query: v.InferOutput<typeof oldDownloadQuery>,
  request: RequestInfo,
  deps: MediaDeps,
) {
  const { timeout_ms, allow_remote, allow_redirect } = query
  const remote = allow_remote !== 'false'
  const medium = await findOpenMedium(nameOf(params), { timeout_ms, remote }, request, deps)
  return serveMedium(medium, { fileName, open: true, redirects: allow_redirect === 'true' }, request, deps)
}

export function nameOf({ serverName, mediaId }: Params): MediaName {
  return { origin: serverName, media_id: mediaId }
}

/** What may be waited for, and whether another server may be asked. */
export interface Finding {
  readonly timeout_ms?: number | undefined
  readonly remote: boolean
}

/** Throws M_NOT_FOUND, and M_NOT_YET_UPLOADED. */
export async function findMedium(
  name: MediaName,
  { timeout_ms = timeoutMsDefault, remote }: Finding,
  { signal }: Pick<RequestInfo, 'signal'>,
  deps: MediaDeps,
): Promise<StoredMedium> {
  const { arriving, config, accessNotes } = deps
  const options = { timeoutMs: timeout_ms, signal }
  let medium = await arriving.find(name, options)
  if (!medium && remote && name.origin !== config.server_name) medium = await deps.remote.retrieve(name, options)
  if (!medium || medium.quarantined_by !== null) throw notFound()
  accessNotes.note(medium)
  return medium
}

/** For whoever asks without an access token: what is newer than the freeze is not there. */
export async function findOpenMedium(
  name: MediaName,
  finding: Finding,
  request: RequestInfo,
  deps: MediaDeps,
): Promise<StoredMedium> {
  // What would be fetched now is new.
  const remote = finding.remote && !deps.config.media.freeze_unauthenticated
  const medium = await findMedium(name, { ...finding, remote }, request, deps)
  if (medium.authenticated) throw notFound()
  return medium
}

async function serveMedium(
  medium: StoredMedium,
  how: { readonly fileName: string | undefined; readonly open: boolean; readonly redirects: boolean },
  request: RequestInfo,
  { store, log }: MediaDeps,
) {
  const { object_key, size, content_type, sha256 } = medium
  const name = safeFileName(how.fileName) ?? medium.upload_name ?? undefined
  const content = { object_key, size, content_type, name, etag: `"${sha256}"`, open: how.open }
  return serveContent(content, request, { store, redirects: how.redirects }).catch((error: unknown) => {
    if (!(error instanceof NoSuchObjectError)) throw error
    // Deleted since it was looked up; otherwise the store has lost it.
    log.warn({ object_key, origin: medium.origin, media_id: medium.media_id }, 'the store does not have a medium')
    throw notFound()
  })
}

export function notFound(): MatrixError {
  return new MatrixError('M_NOT_FOUND', 'There is no such medium')
}
