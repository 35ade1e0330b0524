/** Media in an object store that speaks the S3 API. Small bodies go in one request; larger ones in parts, of which one is in memory
 *  at a time. https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html */
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { AwsV4Signer } from 'aws4fetch'
import { Agent, type Dispatcher, request } from 'undici'
import * as v from 'valibot'
import type { Config } from '../config/schema.ts'
import { type Pieces, streamPieces } from './pieces.ts'
import {
  type ByteRange,
  type MediaStore,
  NoSuchObjectError,
  ObjectKey,
  type RedirectHeaders,
  type StoredObject,
} from './store.ts'
import { markerBytesMax, markerName, parseMarker, type StoreMarker, serialiseMarker } from './store-marker.ts'

type Settings = NonNullable<Config['media']['s3']>

/** What the API asks of all parts but the last. */
const partBytesLeast = 5 * 1024 * 1024
const connectMs = 5_000
/** Without a byte for this long, a connection is taken for lost. */
const silenceMs = 30_000
const redirectSeconds = 300
/** Requests that may be sent again are, while the store is away for a moment. */
const attempts = 4
const firstRetryMs = 200
/** Answers that are read whole are lists and errors. */
const answerBytesMax = 4 * 1024 * 1024

type Answer = Dispatcher.ResponseData
type Name = ObjectKey | typeof markerName

interface Call {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  readonly key?: Name
  readonly query?: Readonly<Record<string, string>>
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array
}

/** The store answered with an error. */
export class S3Error extends Error {
  readonly status: number
  readonly code: string | undefined
  constructor(method: string, status: number, body: string) {
    const code = /<Code>([^<]{1,100})<\/Code>/.exec(body)?.[1]
    const message = /<Message>([^<]{1,300})<\/Message>/.exec(body)?.[1]
    super(`the object store answered ${method} with ${status}${code ? ` ${code}` : ''}${message ? `: ${message}` : ''}`)
    this.name = 'S3Error'
    this.status = status
    this.code = code
  }
}

export function openS3Store(settings: Settings): MediaStore {
  const { bucket, prefix, region } = settings
  const endpoint = settings.endpoint.replace(/\/$/, '')
  const credentials = {
    accessKeyId: settings.access_key_id,
    secretAccessKey: settings.secret_access_key,
    service: 's3',
    region,
  }
  const partBytes = Math.max(settings.part_size, partBytesLeast)
  const dispatcher = new Agent({
    connect: { timeout: connectMs },
    headersTimeout: silenceMs,
    bodyTimeout: silenceMs,
    keepAliveTimeout: 20_000,
  })

  function urlOf(key: Name | undefined, query: Readonly<Record<string, string>> = {}): string {
    const url = new URL(`${endpoint}/${bucket}${key === undefined ? '' : `/${prefix}${key}`}`)
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
    return url.href
  }

  async function once({ method, key, query, headers = {}, body }: Call): Promise<Answer> {
    const { url, headers: signed } = await new AwsV4Signer({
      ...credentials,
      method,
      url: urlOf(key, query),
      headers: { ...headers, 'x-amz-content-sha256': sha256(body ?? new Uint8Array()) },
    }).sign()
    return request(url, {
      method,
      headers: Object.fromEntries(signed),
      ...(body === undefined ? {} : { body }),
      dispatcher,
    })
  }

  /** The answer of a call that succeeded; rejects with S3Error. All calls here may be made again. */
  async function call(what: Call): Promise<Answer> {
    for (let attempt = 1; ; attempt++) {
      try {
        const answer = await once(what)
        if (answer.statusCode < 300) return answer
        const error = new S3Error(what.method, answer.statusCode, await textOf(answer))
        if (answer.statusCode < 500 && answer.statusCode !== 429) throw error
        if (attempt === attempts) throw error
      } catch (error) {
        if (error instanceof S3Error || attempt === attempts) throw error
      }
      await sleep(firstRetryMs * 2 ** (attempt - 1))
    }
  }

  async function done(what: Call): Promise<string> {
    return textOf(await call(what))
  }

  async function put(key: ObjectKey, bytes: AsyncIterable<Uint8Array>): Promise<void> {
    let uploadId: string | undefined
    const etags: string[] = []
    try {
      for await (const { part, last } of partsOf(bytes, partBytes)) {
        if (last && uploadId === undefined) {
          await done({ method: 'PUT', key, body: part })
          return
        }
        uploadId ??= element(await done({ method: 'POST', key, query: { uploads: '' } }), 'UploadId')
        const query = { partNumber: String(etags.length + 1), uploadId }
        const answer = await call({ method: 'PUT', key, query, body: part })
        await textOf(answer)
        etags.push(String(answer.headers.etag))
      }
      if (uploadId !== undefined) await completeParts(key, uploadId, etags)
    } catch (error) {
      if (uploadId !== undefined) await abortParts(key, uploadId).catch(() => undefined)
      throw error
    }
  }

  async function completeParts(key: ObjectKey, uploadId: string, etags: readonly string[]): Promise<void> {
    const parts = etags.map((etag, i) => `<Part><PartNumber>${i + 1}</PartNumber><ETag>${escaped(etag)}</ETag></Part>`)
    const body = Buffer.from(`<CompleteMultipartUpload>${parts.join('')}</CompleteMultipartUpload>`)
    const answer = await done({ method: 'POST', key, query: { uploadId }, body })
    // This call alone may begin with 200 and end with an error.
    if (answer.includes('<Error>')) throw new S3Error('POST', 500, answer)
  }

  async function abortParts(key: ObjectKey, uploadId: string): Promise<void> {
    await done({ method: 'DELETE', key, query: { uploadId } }).catch(unlessMissing)
  }

  async function read(key: ObjectKey, { start, end }: ByteRange): Promise<Pieces> {
    const headers = { range: `bytes=${start}-${end - 1}` }
    const answer = await call({ method: 'GET', key, headers }).catch((error: unknown) => {
      throw error instanceof S3Error && error.status === 404 ? new NoSuchObjectError(key) : error
    })
    return streamPieces(answer.body)
  }

  async function redirect(key: ObjectKey, headers: RedirectHeaders): Promise<string | undefined> {
    if (!settings.redirect) return undefined
    const query = {
      'response-content-type': headers.content_type,
      'response-content-disposition': headers.content_disposition,
      'X-Amz-Expires': String(redirectSeconds),
    }
    const { url } = await new AwsV4Signer({ ...credentials, url: urlOf(key, query), signQuery: true }).sign()
    return url.href
  }

  /** Of uploads in parts that never came to their end, the store still holds the parts. */
  async function unfinished(key: ObjectKey): Promise<string[]> {
    const listed = await done({ method: 'GET', query: { uploads: '', prefix: `${prefix}${key}` } })
    return elements(listed, 'UploadId')
  }

  async function remove(key: ObjectKey): Promise<void> {
    for (const uploadId of await unfinished(key)) await abortParts(key, uploadId)
    await done({ method: 'DELETE', key }).catch(unlessMissing)
  }

  async function* list(signal: AbortSignal): AsyncIterable<readonly StoredObject[]> {
    let token: string | undefined
    do {
      signal.throwIfAborted()
      const continued = token === undefined ? {} : { 'continuation-token': token }
      const listed = await done({ method: 'GET', query: { 'list-type': '2', prefix, ...continued } })
      yield elements(listed, 'Contents').flatMap((content) => {
        const name = element(content, 'Key')
        const key = v.safeParse(ObjectKey, name.startsWith(prefix) ? name.slice(prefix.length) : '')
        return key.success ? [{ key: key.output, modifiedTs: Date.parse(element(content, 'LastModified')) }] : []
      })
      token = elements(listed, 'NextContinuationToken')[0]
    } while (token !== undefined)
  }

  async function readMarker(): Promise<StoreMarker | undefined> {
    try {
      const headers = { range: `bytes=0-${markerBytesMax - 1}` }
      return parseMarker(await done({ method: 'GET', key: markerName, headers }))
    } catch (error) {
      unlessMissing(error)
      return undefined
    }
  }

  async function writeMarker(marker: StoreMarker): Promise<void> {
    await done({ method: 'PUT', key: markerName, body: serialiseMarker(marker) })
  }

  return {
    put,
    read,
    redirect,
    delete: remove,
    list,
    readMarker,
    writeMarker,
    async check() {
      await done({ method: 'GET', query: { 'list-type': '2', prefix, 'max-keys': '1' } })
    },
    close: () => dispatcher.close(),
  }
}

/** The bytes in parts of equal size but for the last, which is empty where there are none. A part's memory is used again for the
 *  next. */
async function* partsOf(
  bytes: AsyncIterable<Uint8Array>,
  partBytes: number,
): AsyncGenerator<{ readonly part: Uint8Array; readonly last: boolean }> {
  // Grows with the body up to a part: most media are far smaller.
  let buffer = Buffer.allocUnsafe(Math.min(partBytes, 256 * 1024))
  let length = 0
  let given = 0
  for await (const chunk of bytes) {
    let taken = 0
    while (taken < chunk.length) {
      // Only with the next byte is it known that this part is not the last.
      if (length === partBytes) {
        yield { part: buffer, last: false }
        given++
        length = 0
      }
      if (length === buffer.length) {
        const larger = Buffer.allocUnsafe(Math.min(partBytes, buffer.length * 2))
        buffer.copy(larger, 0, 0, length)
        buffer = larger
      }
      const some = Math.min(chunk.length - taken, buffer.length - length)
      buffer.set(chunk.subarray(taken, taken + some), length)
      length += some
      taken += some
    }
  }
  if (length > 0 || given === 0) yield { part: buffer.subarray(0, length), last: true }
}

function sha256(body: Uint8Array): string {
  return createHash('sha256').update(body).digest('hex')
}

async function textOf({ body }: Answer): Promise<string> {
  let text = ''
  body.setEncoding('utf8')
  for await (const piece of body) {
    text += piece
    if (text.length > answerBytesMax) throw new Error('an answer of the object store is too long')
  }
  return text
}

function unlessMissing(error: unknown): void {
  if (!(error instanceof S3Error) || error.status !== 404) throw error
}

/** The texts of all elements of this name. The API's answers are flat enough for that. */
function elements(xml: string, name: string): string[] {
  return [...xml.matchAll(new RegExp(`<${name}>([^]*?)</${name}>`, 'g'))].map(([, text = '']) => unescaped(text))
}

function element(xml: string, name: string): string {
  const [text] = elements(xml, name)
  if (text === undefined) throw new Error(`an answer of the object store has no ${name}`)
  return text
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')
}
function unescaped(text: string): string {
  return text
    .replaceAll('&quot;', '"')
    .replaceAll('&#34;', '"')
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&amp;', '&')
}
