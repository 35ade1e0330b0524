/** Thumbnails: made once, when the first one asks, and kept as objects beside the one that they were made of. */
import type { MainClient } from '../../shared/commands/registry.ts'
import type { Config } from '../../shared/config/schema.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import type { Pieces } from '../../shared/media/pieces.ts'
import type { MediaStore } from '../../shared/media/store.ts'
import { type StoredMedium, type StoredThumbnail, type ThumbnailName, thumbnailOf } from '../../shared/storage/media.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import { type ThumbnailMethod, thumbnailSize } from './thumbnails/sizes.ts'
import { ThumbnailError } from './thumbnails/thumbnail-error.ts'
import type { Thumbnailer } from './thumbnails/thumbnailer.ts'
import type { Uploads } from './uploads.ts'

export interface AskedThumbnail {
  readonly width: number
  readonly height: number
  readonly method?: ThumbnailMethod | undefined
  readonly animated: boolean
}

export interface StoredThumbnails {
  /** Throws M_UNKNOWN with 400 for what no thumbnail can be made of, M_TOO_LARGE for what is too large for that, and
   *  M_LIMIT_EXCEEDED where too many are being made. */
  of(medium: StoredMedium, asked: AskedThumbnail): Promise<StoredThumbnail>
}

const busyRetryMs = 2_000

export function createStoredThumbnails(deps: {
  readonly config: Config['thumbnails']
  readonly sql: ReadSql
  readonly main: Pick<MainClient, 'completeThumbnail'>
  readonly store: MediaStore
  readonly uploads: Uploads
  readonly thumbnailer: Thumbnailer
}): StoredThumbnails {
  const { config, sql, main, store, uploads, thumbnailer } = deps
  /** Those that are being made here: whoever asks for one of them meanwhile waits for the same. */
  const making = new Map<string, Promise<StoredThumbnail>>()

  async function make(medium: StoredMedium, name: ThumbnailName): Promise<StoredThumbnail> {
    const { width, height, method, animated } = name
    const pieces = await store.read(medium.object_key, { start: 0, end: medium.size })
    const source = await wholeOf(pieces, medium.size)
    const made = await thumbnailer.make({ source, size: { width, height, method }, animated })
    const { bytes, content_type } = made
    const what = { bytes, size: bytes.length, bytesMax: bytes.length }
    return uploads.write(what, async (written) => {
      const { object_key } = await main.completeThumbnail({ ...written, ...name, content_type })
      if (object_key === null) throw new MatrixError('M_NOT_FOUND', 'There is no such medium')
      return { object_key, content_type, size: written.size, sha256: written.sha256 }
    })
  }

  return {
    async of(medium, asked) {
      const { width, height, method } = thumbnailSize(config, asked)
      const name = { source_key: medium.object_key, width, height, method, animated: asked.animated }
      const known = await thumbnailOf(sql, name)
      if (known) return known
      if (medium.size === 0) throw noThumbnail()
      if (medium.size > config.source_bytes_max) throw tooLargeFor()
      const key = JSON.stringify(name)
      let made = making.get(key)
      if (!made) {
        made = make(medium, name).finally(() => making.delete(key))
        making.set(key, made)
      }
      return made.catch((error: unknown) => {
        throw error instanceof ThumbnailError ? matrixError(error) : error
      })
    },
  }
}

async function wholeOf(pieces: Pieces, size: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafe(size)
  let length = 0
  for await (const chunk of pieces) {
    bytes.set(chunk, length)
    length += chunk.length
  }
  if (length !== size) throw new Error('an object in the store is shorter than its row says')
  return bytes
}

function matrixError({ reason }: ThumbnailError): MatrixError {
  switch (reason) {
    case 'unsupported':
    case 'broken':
      return noThumbnail()
    case 'too_large':
    case 'timeout':
      return tooLargeFor()
    case 'busy':
    case 'aborted':
      return new MatrixError('M_LIMIT_EXCEEDED', 'Too many thumbnails are being made', {
        extra: { retry_after_ms: busyRetryMs },
      })
  }
}

function noThumbnail(): MatrixError {
  return new MatrixError('M_UNKNOWN', 'There can be no thumbnail of this medium', { status: 400 })
}
function tooLargeFor(): MatrixError {
  return new MatrixError('M_TOO_LARGE', 'This medium is too large for a thumbnail')
}
