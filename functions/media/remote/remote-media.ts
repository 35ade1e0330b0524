/** Media of other servers, fetched when somebody asks for them, and kept.
 *  https://spec.matrix.org/v1.19/server-server-api/#content-repository */
import type { MediaName } from '../../../shared/commands/media.ts'
import type { Config } from '../../../shared/config/schema.ts'
import type { Egress, EgressResponse } from '../../../shared/egress/egress.ts'
import { EgressError } from '../../../shared/egress/egress-error.ts'
import { type FederationClient, RemoteError, refusalOf } from '../../../shared/federation/federation-client.ts'
import type { Logger } from '../../../shared/logging.ts'
import type { ServerName } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { isAwaited, mediumOf, type StoredMedium } from '../../../shared/storage/media.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { safeContentType, safeFileName } from '../content-headers.ts'
import type { Uploads } from '../uploads.ts'
import { dispositionName } from './disposition-name.ts'
import { type RemoteContent, readMultipart } from './multipart.ts'

export interface RemoteMedia {
  /** Undefined where the other server has no such medium. Throws M_TOO_LARGE and M_UNKNOWN, both with 502, where it is too
   *  large or its server does not answer as it should, and M_NOT_YET_UPLOADED. */
  retrieve(
    name: MediaName,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<StoredMedium | undefined>
}

/** Beside what the other server waits for the upload. */
const answerMs = 30_000
const redirects = 3

export function createRemoteMedia(deps: {
  readonly config: Pick<Config, 'media'>
  readonly sql: ReadSql
  readonly egress: Egress
  readonly federation: FederationClient
  readonly uploads: Uploads
  readonly log: Pick<Logger, 'warn'>
}): RemoteMedia {
  const { config, sql, egress, federation, uploads, log } = deps
  const bytesMax = config.media.max_upload_size
  /** Being fetched here: whoever asks meanwhile waits for the same. */
  const fetching = new Map<string, Promise<StoredMedium | undefined>>()

  /** Nobody's signal ends it: others may wait for it too, and the next will ask for it. */
  async function fetchOnce(name: MediaName, timeoutMs: number): Promise<StoredMedium | undefined> {
    const { origin, media_id } = name
    let response: EgressResponse | undefined
    try {
      const limits = { bytesMax: bytesMax + 1024 * 1024, firstByteMs: timeoutMs + answerMs }
      const ask = (uri: string, accept: string) =>
        federation.raw(origin, { method: 'GET', uri, accept, limits, decode: false })
      const target = `/_matrix/federation/v1/media/download/${media_id}?timeout_ms=${timeoutMs}`
      response = await ask(target, 'multipart/mixed')
      if (response.status === 200) {
        const content = await readMultipart(response.headers.get('content-type'), response.body)
        return await keep(name, 'location' in content ? await follow(content, limits) : content)
      }
      const refusal = await refusalOf(origin, response)
      if (refusal.errcode !== 'M_UNRECOGNIZED') return given(refusal)
      // A server from before v1.11, which gives media to everybody.
      response.close()
      const old = `/_matrix/media/v3/download/${origin}/${media_id}?allow_remote=false&timeout_ms=${timeoutMs}`
      response = await ask(old, '*/*')
      return response.status === 200 ? await keep(name, response) : given(await refusalOf(origin, response))
    } catch (error) {
      // Of a server that this one has nothing to do with there are no media.
      if (error instanceof RemoteError && error.reason === 'denied') return undefined
      throw asRemoteFailure(error, origin)
    } finally {
      response?.close()
    }
  }

  /** Of a server that does not give the medium: undefined where it has none. */
  function given(refusal: RemoteError): undefined {
    if (refusal.status === 404) return undefined
    if (refusal.status === 504) throw new MatrixError('M_NOT_YET_UPLOADED', 'This medium has not been uploaded yet')
    throw refusal
  }

  async function follow(
    { location }: { readonly location: string },
    limits: { readonly bytesMax: number },
  ): Promise<Exclude<RemoteContent, { location: string }>> {
    const response = await egress.request({ url: location, redirects, limits, decode: false })
    if (response.status === 200) return response
    response.close()
    throw new Error(`where it sent us to, it was answered with ${response.status}`)
  }

  async function keep(name: MediaName, { headers, body }: Exclude<RemoteContent, { location: string }>) {
    await uploads.store({
      bytes: body,
      size: undefined,
      bytesMax,
      content_type: safeContentType(headers.get('content-type') ?? undefined),
      upload_name: safeFileName(dispositionName(headers.get('content-disposition') ?? '')),
      user_id: undefined,
      kind: 'remote',
      as: { ...name, ahead: false },
    })
    return stored(name)
  }

  async function stored(name: MediaName): Promise<StoredMedium | undefined> {
    const medium = await mediumOf(sql, name)
    return medium && !isAwaited(medium) ? medium : undefined
  }

  function asRemoteFailure(error: unknown, origin: ServerName): unknown {
    if (error instanceof MatrixError) {
      if (error.errcode !== 'M_TOO_LARGE') return error
    } else log.warn({ err: error, origin }, 'a medium could not be fetched from its server')
    const large = error instanceof MatrixError || (error instanceof EgressError && error.reason === 'too_large')
    return large
      ? new MatrixError('M_TOO_LARGE', 'This medium is larger than this server takes', { status: 502 })
      : new MatrixError('M_UNKNOWN', 'The server of this medium does not give it', { status: 502 })
  }

  return {
    async retrieve(name, { timeoutMs }) {
      const key = `${name.origin}/${name.media_id}`
      let fetched = fetching.get(key)
      if (!fetched) {
        fetched = fetchOnce(name, timeoutMs)
          .catch(async (error: unknown) => {
            // Another handler was quicker.
            if (error instanceof MatrixError && error.errcode === 'M_CANNOT_OVERWRITE_MEDIA') return stored(name)
            throw error
          })
          .finally(() => fetching.delete(key))
        fetching.set(key, fetched)
      }
      return fetched
    },
  }
}
