/**
 * Adds vitest's report (a JSON file) to lines of the form "N passed, N failed, N skipped", and prints the sum as such a line.
 * What failed in the report is named on the standard error output: who sees only the end of a long run sees it too.
 */
import { existsSync, readFileSync } from 'node:fs'
import { relative } from 'node:path'

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

interface VitestReport {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numFailedTestSuites: number
  readonly numPendingTests: number
  readonly numTodoTests: number
  readonly testResults: readonly {
    /** The file. */
    readonly name: string
    readonly status: string
    /** Why the file itself failed. */
    readonly message?: string
    readonly assertionResults: readonly {
      readonly fullName: string
      readonly status: string
      readonly failureMessages?: readonly string[]
    }[]
  }[]
}

/** Lines of a message that are shown: an assertion's difference, without the whole stack. */
const MESSAGE_LINES = 12

const [report = '', ...lines] = process.argv.slice(2)

function ofVitest(file: string): Counts {
  // No report: the run broke down before it could write one.
  if (!existsSync(file)) return { passed: 0, failed: 1, skipped: 0 }
  const counts = JSON.parse(readFileSync(file, 'utf8')) as VitestReport
  nameFailures(counts)
  // A file that does not load fails as a suite and has no tests.
  const failed = Math.max(counts.numFailedTests, Math.min(counts.numFailedTestSuites, 1))
  return { passed: counts.numPassedTests, failed, skipped: counts.numPendingTests + counts.numTodoTests }
}

function nameFailures({ testResults }: VitestReport): void {
  for (const { name, status, message = '', assertionResults } of testResults) {
    const tests = assertionResults.filter((test) => test.status === 'failed')
    for (const test of tests)
      printFailure(`${relative('.', name)} > ${test.fullName}`, test.failureMessages?.join('\n') ?? '')
    if (status === 'failed' && tests.length === 0) printFailure(relative('.', name), message)
  }
}

function printFailure(what: string, message: string): void {
  process.stderr.write(`failed: ${what}\n  ${message.split('\n').slice(0, MESSAGE_LINES).join('\n  ')}\n`)
}

function ofLine(line: string): Counts {
  const [, passed, failed, skipped] = /^(\d+) passed, (\d+) failed, (\d+) skipped$/.exec(line) ?? []
  if (passed === undefined) throw new Error(`not a line of counts: ${line}`)
  return { passed: Number(passed), failed: Number(failed), skipped: Number(skipped) }
}

const all = [ofVitest(report), ...lines.map(ofLine)]
const sum = (key: keyof Counts) => all.reduce((total, counts) => total + counts[key], 0)
process.stdout.write(`${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped\n`)
