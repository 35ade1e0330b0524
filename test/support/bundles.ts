/** Bundles of all roles as they are now, for tests that start many processes: they start in a fifth of the sources' time. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import path from 'node:path'
import { buildBundles, root } from '../../infra/build/bundles.ts'

export interface TestBundles {
  readonly dist: string
  remove(): void
}

export async function testBundles(): Promise<TestBundles> {
  const cache = path.join(root, 'node_modules/.cache')
  mkdirSync(cache, { recursive: true })
  const dist = mkdtempSync(path.join(cache, 'bundles-'))
  await buildBundles(dist)
  return { dist, remove: () => rmSync(dist, { recursive: true, force: true }) }
}
