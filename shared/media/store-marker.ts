/** A store names the installation that it belongs to, so that no other one deletes what it does not know there. */
import * as v from 'valibot'
import type { MediaStore } from './store.ts'

/** Beside the objects, and never the name of one. */
export const markerName = 'ganglion-store.json'
export const markerBytesMax = 4_096

const StoreMarker = v.object({
  installation_id: v.pipe(v.string(), v.uuid()),
  /** Changes every few minutes; what it is for stands at `functions/main/media/store-ownership.ts`. */
  token: v.pipe(v.string(), v.uuid()),
})
export type StoreMarker = v.InferOutput<typeof StoreMarker>

/** The store is not this installation's, or nobody can tell whose it is. The message is for the operator. */
export class ForeignStoreError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'ForeignStoreError'
  }
}

export function parseMarker(text: string): StoreMarker {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    // Said below.
  }
  const marker = v.safeParse(StoreMarker, json)
  if (marker.success) return marker.output
  throw new ForeignStoreError(`${markerName} in the store of media can't be read: nobody can tell whose store it is`)
}

export function serialiseMarker(marker: StoreMarker): Uint8Array {
  return Buffer.from(`${JSON.stringify(marker)}\n`)
}

/** Throws ForeignStoreError for another installation's. */
export function requireOwn(marker: StoreMarker, installationId: string): void {
  if (marker.installation_id === installationId) return
  throw new ForeignStoreError(
    `the store of media belongs to another installation (${marker.installation_id}; this one is ${installationId}). ` +
      'Give this one a media.folder, or a bucket or prefix in media.s3, of its own',
  )
}

/** The store, of which nothing is used before its marker was seen to name this installation. */
export function checkedStore(store: MediaStore, installationId: () => Promise<string>): MediaStore {
  let checked = false

  async function check(): Promise<void> {
    await store.check()
    const [marker, mine] = await Promise.all([store.readMarker(), installationId()])
    if (!marker) throw new Error('the store of media has no marker yet; main makes it')
    requireOwn(marker, mine)
    checked = true
  }

  async function own(): Promise<MediaStore> {
    if (!checked) await check()
    return store
  }

  return {
    ...store,
    put: async (...given) => (await own()).put(...given),
    read: async (...given) => (await own()).read(...given),
    redirect: async (...given) => (await own()).redirect(...given),
    delete: async (...given) => (await own()).delete(...given),
    check,
  }
}
