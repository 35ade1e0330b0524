/** What the server ships with must be free to ship: permissive licences, or exceptions that NOTICE names. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'

const root = path.resolve(import.meta.dirname, '..')
const permissive =
  /^(?:MIT|MIT-0|ISC|Apache-2\.0|BSD-2-Clause|BSD-3-Clause|0BSD|BlueOak-1\.0\.0|Unlicense|PostgreSQL|CC0-1\.0|MIT OR Apache-2\.0|Apache-2\.0 OR MIT)$/

interface Entry {
  readonly license?: string
  readonly dev?: boolean
  readonly devOptional?: boolean
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

interface Lock {
  readonly packages: Readonly<Record<string, Entry>>
}

/** Packages for one platform each go by the name that they share. */
const nameOf = (place: string) => place.replace(/^.*node_modules\//, '').replace(/^(@img\/sharp)-.*/, '$1')

test('every package that is shipped has a permissive licence', () => {
  const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as Lock
  const notice = readFileSync(path.join(root, 'NOTICE'), 'utf8')
  const shipped = Object.entries(lock.packages).filter(
    ([place, entry]) => place !== '' && !entry.dev && !entry.devOptional,
  )
  // The lock tells no licence of packages for other platforms; they are parts of the package that names them.
  const ofParts = new Map(
    shipped.flatMap(([, entry]) =>
      Object.keys(entry.optionalDependencies ?? {}).map((part) => [part, entry.license] as const),
    ),
  )
  const others = shipped
    .map(([place, entry]) => ({ name: nameOf(place), license: entry.license ?? ofParts.get(nameOf(place)) }))
    .filter(({ name, license }) => !permissive.test(license ?? 'none') && !notice.includes(name))
  expect(others).toEqual([])
})
