/** Runs when all other tests have: between them they have got, of each operation that is served, an answer that the
 *  specification knows as the good one. Each of these was valid, or observe.ts has failed the test that got it. */
import { existsSync, globSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { corrected } from './corrections.ts'
import { exemptions } from './exemptions.ts'
import { answeredLater, later } from './later.ts'
import { projectFolder, recordsOfWholeRun } from './record.ts'
import { readSpecification } from './specification.ts'

const records = recordsOfWholeRun()
const { operations } = corrected(readSpecification())

test.skipIf(!records)('every test file was observed', () => {
  const files = globSync('{shared,functions,infra,test}/**/*.test.ts', { cwd: projectFolder })
  const observed = new Set(records?.map(({ file }) => file))
  const self = path.relative(projectFolder, import.meta.filename)
  expect(files.filter((file) => file !== self && !observed.has(file))).toEqual([])
})

describe.skipIf(!records)('every operation that is served was answered', () => {
  const notServed = new Set(Object.values(later).flat())
  const seen = new Set(
    records?.flatMap((record) =>
      Object.entries(record.seen).flatMap(([id, statuses]) => Object.keys(statuses).map((status) => `${id} ${status}`)),
    ),
  )
  const served = Object.entries(operations).filter(([id]) => !notServed.has(id))
  test.each(served)('%s', (id, { method, path: template, responses }) => {
    const answered = Object.keys(responses).some((status) => status < '400' && seen.has(`${id} ${status}`))
    if (answeredLater.includes(id)) expect(answered, 'it was answered: take it off answeredLater').toBe(false)
    else expect(answered, `no test has a good answer of ${method} ${template}`).toBe(true)
  })
})

test('what is exempt is there', () => {
  expect(exemptions.filter(({ file }) => !existsSync(path.join(projectFolder, file)))).toEqual([])
})
