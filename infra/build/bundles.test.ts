/** What is in the bundles, and what must not be. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import budgets from './budgets.json' with { type: 'json' }
import { type Bundle, buildBundles } from './bundles.ts'

const handlers = ['sync', 'client', 'federation', 'media'] as const
const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-bundles-'))
let bundles: ReadonlyMap<string, Bundle>

beforeAll(async () => {
  bundles = new Map((await buildBundles(folder)).map((bundle) => [bundle.name, bundle]))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

test('each role has a bundle, and each bundle a budget', () => {
  const names = [...bundles.keys()].sort()
  const roles = ['client', 'edge', 'federation', 'main', 'media', 'monolith', 'sync']
  expect(names).toEqual([...roles, 'ganglion', 'thumbnail-worker'].sort())
  expect(Object.keys(budgets).sort()).toEqual(names)
})

describe.each(handlers)('the bundle of %s', (role) => {
  const inputs = () => bundles.get(role)?.inputs ?? []

  test('has its own role', () => {
    expect(inputs()).toContain(`functions/${role}/entry.ts`)
  })

  test('has no writer code, and no other role, not even in what it loads later', () => {
    expect(inputs().filter((file) => file.startsWith('functions/') && !file.startsWith(`functions/${role}/`))).toEqual(
      [],
    )
    expect(inputs().filter((file) => /(?:^|\/)(?:migrate|apply-migrations)\.ts$/.test(file))).toEqual([])
  })

  test('has nothing of tests and tools', () => {
    expect(inputs().filter((file) => /^(?:test|infra)\//.test(file))).toEqual([])
  })
})

test('the edge has no database', () => {
  const inputs = bundles.get('edge')?.inputs ?? []
  expect(inputs.length).toBeGreaterThan(0)
  expect(inputs.filter((file) => /^node_modules\/postgres\/|^shared\/storage\//.test(file))).toEqual([])
})

test.each(handlers.concat('edge' as never))('%s is within its budget', (role) => {
  const kilobytes = (bundles.get(role)?.bytes ?? Number.POSITIVE_INFINITY) / 1024
  expect(kilobytes).toBeLessThanOrEqual(budgets[role])
})
