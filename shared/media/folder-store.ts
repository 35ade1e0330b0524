/** Media in a folder, for small installations: mains and media handlers see the same one. */
import { randomUUID } from 'node:crypto'
import {
  access,
  constants,
  type FileHandle,
  mkdir,
  open,
  opendir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
} from 'node:fs/promises'
import path from 'node:path'
import * as v from 'valibot'
import { filePieces, type Pieces } from './pieces.ts'
import { type ByteRange, type MediaStore, NoSuchObjectError, ObjectKey, type StoredObject } from './store.ts'
import { markerName, parseMarker, type StoreMarker, serialiseMarker } from './store-marker.ts'

const listedAtOnce = 1_000

export function openFolderStore(folder: string): MediaStore {
  const fileOf = (key: ObjectKey) => path.join(folder, key)

  async function put(key: ObjectKey, bytes: AsyncIterable<Uint8Array>): Promise<void> {
    const file = fileOf(key)
    const made = await mkdir(path.dirname(file), { recursive: true })
    const handle = await open(file, 'wx', 0o640)
    try {
      for await (const chunk of bytes) await writeAll(handle, chunk)
      await handle.sync()
    } finally {
      await handle.close()
    }
    // The names too have to outlive a crash of the machine.
    await syncFolder(path.dirname(file))
    if (made !== undefined) {
      await syncFolder(path.dirname(path.dirname(file)))
      await syncFolder(folder)
    }
  }

  async function read(key: ObjectKey, range: ByteRange): Promise<Pieces> {
    const handle = await open(fileOf(key)).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'ENOENT' ? new NoSuchObjectError(key) : error
    })
    return filePieces(handle, range)
  }

  async function* list(signal: AbortSignal): AsyncIterable<readonly StoredObject[]> {
    for (const outer of await foldersIn(folder)) {
      for (const inner of await foldersIn(path.join(folder, outer))) {
        let found: StoredObject[] = []
        for await (const entry of await opendir(path.join(folder, outer, inner))) {
          signal.throwIfAborted()
          const key = v.safeParse(ObjectKey, `${outer}/${inner}/${entry.name}`)
          if (!key.success) continue
          const stats = await stat(fileOf(key.output)).catch(() => undefined)
          if (stats) found.push({ key: key.output, modifiedTs: stats.mtimeMs })
          if (found.length < listedAtOnce) continue
          yield found
          found = []
        }
        if (found.length > 0) yield found
      }
    }
  }

  async function readMarker(): Promise<StoreMarker | undefined> {
    const text = await readFile(path.join(folder, markerName), 'utf8').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined
      throw error
    })
    return text === undefined ? undefined : parseMarker(text)
  }

  async function writeMarker(marker: StoreMarker): Promise<void> {
    await mkdir(folder, { recursive: true })
    const draft = path.join(folder, `${markerName}.${randomUUID()}`)
    try {
      const handle = await open(draft, 'wx', 0o640)
      try {
        await writeAll(handle, serialiseMarker(marker))
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(draft, path.join(folder, markerName))
    } finally {
      await rm(draft, { force: true })
    }
    await syncFolder(folder)
  }

  return {
    put,
    read,
    redirect: async () => undefined,
    delete: (key) => rm(fileOf(key), { force: true }),
    list,
    readMarker,
    writeMarker,
    async check() {
      await mkdir(folder, { recursive: true })
      await access(folder, constants.R_OK | constants.W_OK)
    },
    close: async () => {},
  }
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  let written = 0
  while (written < chunk.length) written += (await handle.write(chunk, written)).bytesWritten
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Those that objects can be in. */
async function foldersIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return names.filter((name) => /^[0-9a-f]{2}$/.test(name))
}
