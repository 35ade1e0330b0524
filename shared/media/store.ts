/** Where the bytes of media are: objects by name, in a folder or in an object store. A name is given out once and never again, so
 *  what is deleted is what was meant, whoever stores the same bytes meanwhile. */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import type { Pieces } from './pieces.ts'
import type { StoreMarker } from './store-marker.ts'

/** Two folders and the rest, so that no folder becomes large. */
export const ObjectKey = v.pipe(v.string(), v.regex(/^[0-9a-f]{2}\/[0-9a-f]{2}\/[0-9a-f]{28}$/), v.brand('ObjectKey'))
export type ObjectKey = v.InferOutput<typeof ObjectKey>

export function newObjectKey(): ObjectKey {
  const name = randomBytes(16).toString('hex')
  return `${name.slice(0, 2)}/${name.slice(2, 4)}/${name.slice(4)}` as ObjectKey
}

/** Bytes at [start, end), at least one. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

export interface StoredObject {
  readonly key: ObjectKey
  readonly modifiedTs: number
}

/** What a client that is sent to the store itself is to be told there. */
export interface RedirectHeaders {
  readonly content_type: string
  readonly content_disposition: string
}

/** The store has no such object. */
export class NoSuchObjectError extends Error {
  constructor(key: string) {
    super(`the store has no object ${key}`)
    this.name = 'NoSuchObjectError'
  }
}

export interface MediaStore {
  /** Resolves when the bytes are durable; where it rejects, something of them may be left, which `delete` takes away. Takes the
   *  bytes no faster than it can store them. */
  put(key: ObjectKey, bytes: AsyncIterable<Uint8Array>): Promise<void>
  /** Rejects with NoSuchObjectError. */
  read(key: ObjectKey, range: ByteRange): Promise<Pieces>
  /** A URL by which a client fetches the object itself, for a few minutes; undefined where that is not set. */
  redirect(key: ObjectKey, headers: RedirectHeaders): Promise<string | undefined>
  /** Whatever there is of it, half an upload too. No error where there is nothing. */
  delete(key: ObjectKey): Promise<void>
  /** All objects, some at a time. */
  list(signal: AbortSignal): AsyncIterable<readonly StoredObject[]>
  /** Undefined where there is none. Throws ForeignStoreError where it is no marker. */
  readMarker(): Promise<StoreMarker | undefined>
  /** In place of the one that is there, at once. */
  writeMarker(marker: StoreMarker): Promise<void>
  /** Rejects, with a sentence for the operator, where the store cannot be used. */
  check(): Promise<void>
  close(): Promise<void>
}
