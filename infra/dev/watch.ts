/** Tells when the sources change. */
import { type FSWatcher, watch } from 'node:fs'
import path from 'node:path'

export const root = path.resolve(import.meta.dirname, '../..')

const folders = ['shared', 'functions'] as const
/** Editors write a file in several steps, and tools write several files. */
const quietMs = 150
const counts = (file: string) => /\.(?:ts|sql)$/.test(file) && !file.endsWith('.test.ts')

/** `changed` gets the files, from the project's root with forward slashes, once a burst of changes is over. */
export function watchSources(changed: (files: readonly string[]) => void): () => void {
  const pending = new Set<string>()
  let timer: NodeJS.Timeout | undefined
  const tell = () => {
    const files = [...pending]
    pending.clear()
    changed(files)
  }
  const watchers: FSWatcher[] = folders.map((folder) =>
    watch(path.join(root, folder), { recursive: true }, (_, name) => {
      if (name === null || !counts(name)) return
      pending.add(path.posix.join(folder, name.replaceAll(path.sep, '/')))
      clearTimeout(timer)
      timer = setTimeout(tell, quietMs)
    }),
  )
  return () => {
    clearTimeout(timer)
    for (const watcher of watchers) watcher.close()
  }
}
