/** `npm test [vitest arguments]`: runs the tests against a throw-away PostgreSQL, or against the server that
 *  GANGLION_TEST_DATABASE_URL names. */
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startEmbeddedPostgres } from '../../functions/monolith/embedded-postgres.ts'

const vitest = path.resolve(import.meta.dirname, '../../node_modules/vitest/vitest.mjs')

async function main(): Promise<number> {
  const given = process.env.GANGLION_TEST_DATABASE_URL
  if (given) return runVitest(given)
  const dir = mkdtempSync(path.join(tmpdir(), 'ganglion-test-'))
  chmodSync(dir, 0o755)
  const database = await startEmbeddedPostgres({ dir: path.join(dir, 'postgres'), unsafeFast: true })
  try {
    return await runVitest(database.url('postgres'))
  } finally {
    await database.stop()
    rmSync(dir, { recursive: true, force: true })
  }
}

function runVitest(databaseUrl: string): Promise<number> {
  const child = spawn(process.execPath, [vitest, 'run', ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, GANGLION_TEST_DATABASE_URL: databaseUrl },
  })
  // Ctrl-C reaches the child too; the database is stopped after it.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code) => resolve(code ?? 1))
  })
}

process.exitCode = await main()
