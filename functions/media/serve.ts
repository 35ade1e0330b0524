/** Answers with the bytes of an object, or the part of them that is wanted. */
import { corsHeaders } from '../../shared/http/headers.ts'
import { BytesReply, type RequestInfo } from '../../shared/http/route.ts'
import type { MediaStore, ObjectKey } from '../../shared/media/store.ts'
import { contentDisposition, contentHeaders } from './content-headers.ts'
import { wantedBytes } from './ranges.ts'

export interface Content {
  readonly object_key: ObjectKey
  readonly size: number
  readonly content_type: string
  readonly name: string | undefined
  /** Quoted, strong: of the bytes. */
  readonly etag: string
  /** Anybody may see it, without an access token. */
  readonly open: boolean
}

/** A medium's bytes never change; after a day a client asks again whether it is still there. */
const freshSeconds = 86_400

export async function serveContent(
  content: Content,
  request: RequestInfo,
  options: { readonly store: MediaStore; readonly redirects: boolean },
): Promise<BytesReply> {
  const { object_key, size, content_type, etag } = content
  const { store } = options
  const disposition = contentDisposition(content_type, content.name)
  if (options.redirects) {
    const url = await store.redirect(object_key, { content_type, content_disposition: disposition })
    // The URL is good for a few minutes, so nobody is to keep it.
    if (url !== undefined) return new BytesReply(307, { ...corsHeaders, Location: url, 'Cache-Control': 'no-store' })
  }
  const headers = {
    ...corsHeaders,
    ...contentHeaders,
    'Content-Type': content_type,
    'Content-Disposition': disposition,
    'Cache-Control': `${content.open ? 'public' : 'private'}, max-age=${freshSeconds}, immutable`,
    ETag: etag,
    'Accept-Ranges': 'bytes',
    'Access-Control-Expose-Headers': 'Content-Disposition, Content-Range, ETag',
  }
  const wanted = wantedBytes(size, etag, {
    range: request.header('range'),
    ifRange: request.header('if-range'),
    ifNoneMatch: request.header('if-none-match'),
  })
  switch (wanted.what) {
    case 'unchanged':
      return new BytesReply(304, headers)
    case 'unsatisfiable':
      return new BytesReply(416, { ...headers, 'Content-Range': `bytes */${size}`, 'Content-Length': '0' })
    case 'part': {
      const { start, end } = wanted.range
      const partHeaders = {
        ...headers,
        'Content-Range': `bytes ${start}-${end - 1}/${size}`,
        'Content-Length': String(end - start),
      }
      return new BytesReply(206, partHeaders, await store.read(object_key, wanted.range))
    }
    case 'all': {
      const all = { ...headers, 'Content-Length': String(size) }
      return new BytesReply(200, all, size === 0 ? undefined : await store.read(object_key, { start: 0, end: size }))
    }
  }
}
