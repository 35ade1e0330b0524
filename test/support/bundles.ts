/** Bundles of all roles as the sources are now, for tests that start many processes: they start in a fifth of the time. */
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { buildBundles, root } from '../../infra/build/bundles.ts'

const cache = path.join(root, 'node_modules/.cache/bundles')
const keptForMs = 3_600_000

/** The folder of the bundles; made once for the same sources, whichever test file asks first. */
export async function testBundles(): Promise<string> {
  const dist = path.join(cache, fingerprint())
  if (existsSync(dist)) return dist
  mkdirSync(cache, { recursive: true })
  for (const name of readdirSync(cache)) removeIfOld(path.join(cache, name))
  const draft = mkdtempSync(path.join(cache, 'draft-'))
  await buildBundles(draft)
  try {
    renameSync(draft, dist)
  } catch (error) {
    // Another test file was quicker: its bundles are the same.
    if (!existsSync(dist)) throw error
    rmSync(draft, { recursive: true, force: true })
  }
  return dist
}

function removeIfOld(folder: string): void {
  const stats = statSync(folder, { throwIfNoEntry: false })
  if (stats && Date.now() - stats.mtimeMs > keptForMs) rmSync(folder, { recursive: true, force: true })
}

/** Changes with every file that a bundle may hold. */
function fingerprint(): string {
  const hash = createHash('sha256')
  for (const folder of ['shared', 'functions', 'infra/build', 'infra/cli']) {
    for (const name of readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' }).sort()) {
      if (name.endsWith('.test.ts')) continue
      const { mtimeMs, size } = statSync(path.join(root, folder, name))
      hash.update(`${folder}/${name} ${mtimeMs} ${size}\n`)
    }
  }
  const { mtimeMs } = statSync(path.join(root, 'package-lock.json'))
  return hash.update(String(mtimeMs)).digest('hex').slice(0, 24)
}
