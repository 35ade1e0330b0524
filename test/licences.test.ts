/** What the server ships with must be free to ship: permissive licences, or exceptions that NOTICE names. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'

const root = path.resolve(import.meta.dirname, '..')
const permissive =
  /^(?:MIT|MIT-0|ISC|Apache-2\.0|BSD-2-Clause|BSD-3-Clause|0BSD|BlueOak-1\.0\.0|Unlicense|PostgreSQL|CC0-1\.0|MIT OR Apache-2\.0|Apache-2\.0 OR MIT)$/

interface Lock {
  readonly packages: Readonly<
    Record<string, { readonly license?: string; readonly dev?: boolean; readonly devOptional?: boolean }>
  >
}

test('every package that is shipped has a permissive licence', () => {
  const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as Lock
  const notice = readFileSync(path.join(root, 'NOTICE'), 'utf8')
  const others = Object.entries(lock.packages)
    .filter(
      ([name, entry]) => name !== '' && !entry.dev && !entry.devOptional && !permissive.test(entry.license ?? 'none'),
    )
    .map(([name, entry]) => ({ name: name.replace(/^.*node_modules\//, ''), license: entry.license }))
    .filter(({ name }) => !notice.includes(name))
  expect(others).toEqual([])
})
