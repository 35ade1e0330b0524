/** Set-up of every test file: each answer of the client-server API that test code gets is held against the specification, and
 *  one that breaks it fails the test that asked. What was seen is kept for answers.test.ts. */
import path from 'node:path'
import { afterAll, afterEach, expect, vi } from 'vitest'
import { watchedHono, watchFetch, watchHttpClient } from './exchanges.ts'
import { isExempt } from './exemptions.ts'
import type { Exchange, Judge } from './judge.ts'
import { keepRecord, projectFolder } from './record.ts'

const bodyCharactersShown = 2000
const complaintsShown = 5
const complaintsKept = 100
const api = /^\/(?:_matrix\/(?:client|media)|\.well-known\/matrix\/(?:client|support|policy_server))(?:[/?]|$)/

const file = path.relative(projectFolder, expect.getState().testPath ?? '')
const seen: Record<string, Record<string, number>> = {}
const complaints: string[] = []

/** Loaded at the first answer: most test files have none. */
let judge: Judge | undefined
let loading: Promise<void> | undefined
const waiting: { readonly test: string; readonly exchange: Exchange }[] = []

const watcher = {
  /** The test that asks; undefined where nothing is to be judged. */
  begins(target: string): string | undefined {
    if (!api.test(target)) return undefined
    const test = expect.getState().currentTestName ?? ''
    return isExempt(file, test) ? undefined : test
  },
  answered(test: string, exchange: Exchange): void {
    if (judge) hold(judge, test, exchange)
    else {
      waiting.push({ test, exchange })
      loading ??= load()
    }
  },
}

async function load(): Promise<void> {
  const { createJudge } = await import('./judge.ts')
  const made = createJudge()
  for (const { test, exchange } of waiting.splice(0)) hold(made, test, exchange)
  judge = made
}

function hold(by: Judge, test: string, exchange: Exchange): void {
  const { operations, complaints: found } = by.judge(exchange)
  if (found.length > 0) {
    if (complaints.length >= complaintsKept) return
    const { method, target, status, body } = exchange
    complaints.push(
      [
        `${method} ${target} (${operations.join(' or ') || 'no operation of the specification'}) answered ${status}:`,
        ...found.map((each) => `  ${each}`),
        `  asked in: ${test === '' ? 'no test' : test}`,
        `  body: ${body.length > bodyCharactersShown ? `${body.slice(0, bodyCharactersShown)}…` : body}`,
      ].join('\n'),
    )
    return
  }
  for (const operation of operations) {
    const { [exchange.status]: count = 0, ...others } = seen[operation] ?? {}
    seen[operation] = { ...others, [exchange.status]: count + 1 }
  }
}

async function complain(): Promise<void> {
  await loading
  const found = complaints.splice(0)
  if (found.length === 0) return
  const more = found.length > complaintsShown ? `\n… and ${found.length - complaintsShown} more` : ''
  throw new Error(`answers that the specification doesn't allow:\n${found.slice(0, complaintsShown).join('\n')}${more}`)
}

// From the start, for files that have nothing to run.
keepRecord({ file, seen })
watchFetch(watcher)
watchHttpClient(watcher)
vi.mock('hono', async (importOriginal) => {
  const original = await importOriginal<typeof import('hono')>()
  return { ...original, Hono: watchedHono(original.Hono, watcher) }
})

afterEach(complain)
afterAll(async () => {
  await loading
  keepRecord({ file, seen })
  await complain()
})
