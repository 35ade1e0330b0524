/** Media for other servers. https://spec.matrix.org/v1.19/server-server-api/#content-repository
 *  Only a server that signs its request gets any. */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import { MediaId } from '../../shared/commands/media.ts'
import { BytesReply, type RequestInfo } from '../../shared/http/route.ts'
import { framed } from '../../shared/media/pieces.ts'
import type { ObjectKey } from '../../shared/media/store.ts'
import { contentDisposition } from './content-headers.ts'
import { type MediaDeps, route } from './deps.ts'
import { downloadQuery, findMedium } from './download.ts'
import { thumbnailFor, thumbnailName, thumbnailQuery } from './thumbnail.ts'

const declaration = {
  method: 'GET',
  auth: 'server',
  limit: 'media_download',
  params: v.object({ mediaId: MediaId }),
} as const

export const getFederationDownload = route({
  ...declaration,
  path: '/_matrix/federation/v1/media/download/:mediaId',
  spec: 'server-server-api/#get_matrixfederationv1mediadownloadmediaid',
  query: downloadQuery,
  async handle({ params, query, request }, deps) {
    const medium = await ownMedium(params.mediaId, query.timeout_ms, request, deps)
    return inParts({ ...medium, name: medium.upload_name ?? undefined }, deps)
  },
})

export const getFederationThumbnail = route({
  ...declaration,
  path: '/_matrix/federation/v1/media/thumbnail/:mediaId',
  spec: 'server-server-api/#get_matrixfederationv1mediathumbnailmediaid',
  query: v.object({ ...downloadQuery.entries, ...thumbnailQuery.entries }),
  async handle({ params, query, request }, deps) {
    const medium = await ownMedium(params.mediaId, query.timeout_ms, request, deps)
    const thumbnail = await thumbnailFor(medium, query, deps)
    return inParts({ ...thumbnail, name: thumbnailName(thumbnail.content_type) }, deps)
  },
})

async function ownMedium(media_id: MediaId, timeout_ms: number | undefined, request: RequestInfo, deps: MediaDeps) {
  return findMedium({ origin: deps.config.server_name, media_id }, { timeout_ms, remote: false }, request, deps)
}

/** The metadata, of which there are none yet, and the content. */
async function inParts(
  content: {
    readonly object_key: ObjectKey
    readonly size: number
    readonly content_type: string
    readonly name: string | undefined
  },
  { store }: Pick<MediaDeps, 'store'>,
): Promise<BytesReply> {
  const { object_key, size, content_type, name } = content
  const boundary = randomBytes(18).toString('hex')
  const disposition = contentDisposition(content_type, name)
  const head = Buffer.from(
    `--${boundary}\r\nContent-Type: application/json\r\n\r\n{}\r\n` +
      `--${boundary}\r\nContent-Type: ${content_type}\r\nContent-Disposition: ${disposition}\r\n\r\n`,
  )
  const tail = Buffer.from(`\r\n--${boundary}--\r\n`)
  const bytes = size === 0 ? undefined : await store.read(object_key, { start: 0, end: size })
  const headers = {
    'Content-Type': `multipart/mixed; boundary=${boundary}`,
    'Content-Length': String(head.length + size + tail.length),
    'Cache-Control': 'no-store',
  }
  return new BytesReply(200, headers, framed(head, bytes, tail))
}
