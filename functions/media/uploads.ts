/** Bytes on their way into the store: the name is reserved, the bytes are written as they come, and then the medium is completed.
 *  What fails on the way leaves nothing behind; what dies on the way, main's sweep takes away. */
import { createHash, randomBytes } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import type { MediaId, MediaKind } from '../../shared/commands/media.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import type { ServerName, UserId } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { type MediaStore, newObjectKey, type ObjectKey } from '../../shared/media/store.ts'
import type { Scanner } from './scanner.ts'

export interface Upload {
  readonly bytes: AsyncIterable<Uint8Array> | Uint8Array
  /** Where it is known before. */
  readonly size: number | undefined
  readonly bytesMax: number
  readonly content_type: string
  readonly upload_name?: string | undefined
  /** Whose quota it counts for. */
  readonly user_id: UserId | undefined
  readonly kind: MediaKind
  /** The medium that these bytes are of; absent: a new one of this server. */
  readonly as?: { readonly origin: ServerName; readonly media_id: MediaId; readonly ahead: boolean }
}

export interface Uploaded {
  readonly media_id: MediaId
  readonly mxc_uri: string
  readonly size: number
  readonly sha256: string
}

/** Bytes that are in the store under a reserved name. */
export interface WrittenObject {
  readonly object_key: ObjectKey
  readonly sha256: string
  readonly size: number
}

export interface Uploads {
  /** Resolves when bytes and rows are durable. Throws M_TOO_LARGE, and what the command completeMedia throws. */
  store(upload: Upload): Promise<Uploaded>
  /** Writes bytes and has `complete` refer to them; where that throws, they are deleted. */
  write<Result>(
    bytes: Pick<Upload, 'bytes' | 'size' | 'bytesMax'>,
    complete: (written: WrittenObject) => Promise<Result>,
  ): Promise<Result>
  close(): void
}

/** Main takes a writer for dead that is silent for three times as long. */
const keepEveryMs = 20_000

export function newMediaId(): MediaId {
  return randomBytes(18).toString('base64url') as MediaId
}

export function createUploads(deps: {
  readonly main: MainClient
  readonly store: MediaStore
  readonly clock: Clock
  readonly serverName: ServerName
  readonly scanner: Scanner | undefined
  readonly onError: (error: unknown) => void
}): Uploads {
  const { main, store, clock, serverName, scanner, onError } = deps
  /** What is being written here. */
  const reserved = new Set<ObjectKey>()
  let cancel = () => {}
  let ticking = false

  function keep(): void {
    if (reserved.size === 0) {
      ticking = false
      return
    }
    ticking = true
    cancel = clock.after(keepEveryMs, () => {
      main.keepMediaObjects({ object_keys: [...reserved] }).catch(onError)
      keep()
    })
  }

  async function write<Result>(
    { bytes, size, bytesMax }: Pick<Upload, 'bytes' | 'size' | 'bytesMax'>,
    complete: (written: WrittenObject) => Promise<Result>,
  ): Promise<Result> {
    if (size !== undefined && size > bytesMax) throw tooLarge(bytesMax)
    const object_key = newObjectKey()
    await main.reserveMediaObject({ object_key, size: size ?? bytesMax })
    reserved.add(object_key)
    if (!ticking) keep()
    try {
      const measured = measure(bytes instanceof Uint8Array ? once(bytes) : bytes, size ?? bytesMax, bytesMax)
      await store.put(object_key, measured.bytes)
      return await complete({ object_key, ...measured.result() })
    } catch (error) {
      main.abandonMediaObject({ object_key }).catch(onError)
      throw error
    } finally {
      reserved.delete(object_key)
    }
  }

  return {
    write,
    store: (upload) =>
      write(upload, async (written) => {
        const { content_type, upload_name, user_id, kind } = upload
        const { origin, media_id, ahead } = upload.as ?? { origin: serverName, media_id: newMediaId(), ahead: false }
        await scanner?.check({ ...written, content_type, user_id })
        await main.completeMedia({
          ...written,
          origin,
          media_id,
          ahead,
          kind,
          content_type,
          ...(upload_name === undefined ? {} : { upload_name }),
          ...(user_id === undefined ? {} : { user_id }),
        })
        return { media_id, mxc_uri: `mxc://${origin}/${media_id}`, size: written.size, sha256: written.sha256 }
      }),
    close: () => cancel(),
  }
}

/** The bytes as they pass by, and afterwards what they were. Ends with M_TOO_LARGE where there are more than were reserved. */
function measure(bytes: AsyncIterable<Uint8Array>, reservedBytes: number, bytesMax: number) {
  const hash = createHash('sha256')
  let size = 0
  async function* passing(): AsyncGenerator<Uint8Array> {
    for await (const chunk of bytes) {
      size += chunk.length
      if (size > reservedBytes) throw tooLarge(bytesMax)
      hash.update(chunk)
      yield chunk
    }
  }
  return { bytes: passing(), result: () => ({ size, sha256: hash.digest('hex') }) }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes
}

export function tooLarge(bytesMax: number): MatrixError {
  return new MatrixError('M_TOO_LARGE', `The file is larger than ${bytesMax} bytes`)
}
