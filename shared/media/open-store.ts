import path from 'node:path'
import type { Config } from '../config/schema.ts'
import { openFolderStore } from './folder-store.ts'
import type { MediaStore } from './store.ts'

/** The store that the configuration names. */
export function openMediaStore({ media, data_dir }: Pick<Config, 'media' | 'data_dir'>): MediaStore {
  const { s3 } = media
  // Its client is loaded by whom it is configured for alone.
  if (s3) return deferred(import('./s3-store.ts').then(({ openS3Store }) => openS3Store(s3)))
  return openFolderStore(path.resolve(media.folder ?? path.join(data_dir, 'media')))
}

function deferred(opening: Promise<MediaStore>): MediaStore {
  return {
    put: async (...given) => (await opening).put(...given),
    read: async (...given) => (await opening).read(...given),
    redirect: async (...given) => (await opening).redirect(...given),
    delete: async (...given) => (await opening).delete(...given),
    async *list(signal) {
      yield* (await opening).list(signal)
    },
    readMarker: async () => (await opening).readMarker(),
    writeMarker: async (...given) => (await opening).writeMarker(...given),
    check: async () => (await opening).check(),
    close: async () => (await opening).close(),
  }
}
