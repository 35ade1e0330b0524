/** `npm test [vitest arguments]`: runs the tests against a throw-away PostgreSQL, or against the server that
 *  GANGLION_TEST_DATABASE_URL names. */
import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startEmbeddedPostgres } from '../../functions/monolith/embedded-postgres.ts'

const vitest = path.resolve(import.meta.dirname, '../../node_modules/vitest/vitest.mjs')

/** Arguments that choose among the tests: a part of a name, or an option that does the like. */
const choosesTests = /^(?:[^-]|-t|--(?:testNamePattern|changed|related|shard|project|exclude|bail|dir)\b)/

async function main(): Promise<number> {
  const dir = mkdtempSync(path.join(tmpdir(), 'ganglion-test-'))
  chmodSync(dir, 0o755)
  try {
    const given = process.env.GANGLION_TEST_DATABASE_URL
    if (given) return await runVitest(given, dir)
    const database = await startEmbeddedPostgres({ dir: path.join(dir, 'postgres'), unsafeFast: true })
    try {
      return await runVitest(database.url('postgres'), dir)
    } finally {
      await database.stop()
    }
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function runVitest(databaseUrl: string, dir: string): Promise<number> {
  const given = process.argv.slice(2)
  // What test/specification gathers over all workers.
  const answers = path.join(dir, 'answers')
  mkdirSync(answers)
  const child = spawn(process.execPath, [vitest, 'run', ...given], {
    stdio: 'inherit',
    env: {
      ...process.env,
      GANGLION_TEST_DATABASE_URL: databaseUrl,
      GANGLION_TEST_ANSWERS: answers,
      GANGLION_TEST_WHOLE: given.some((argument) => choosesTests.test(argument)) ? '0' : '1',
    },
  })
  // Ctrl-C reaches the child too; the database is stopped after it.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

process.exitCode = await main()
