/** `npm run dev` starts anew what changed, on a copy of the sources. */
import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { freePort } from '../infra/dev/free-port.ts'
import { type TestDatabase, testDatabase } from './support/database.ts'

const root = path.resolve(import.meta.dirname, '..')
let folder: string
let database: TestDatabase
let dev: ChildProcess
let output = ''

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'ganglion-dev-'))
  for (const part of ['functions', 'shared', 'infra', 'package.json', 'tsconfig.json']) {
    cpSync(path.join(root, part), path.join(folder, part), { recursive: true })
  }
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'))
  database = await testDatabase()
})
afterAll(async () => {
  if (dev && dev.exitCode === null) {
    const ended = new Promise((resolve) => dev.once('exit', resolve))
    dev.kill('SIGTERM')
    await ended
  }
  await database?.drop()
  rmSync(folder, { recursive: true, force: true })
})

test('npm run dev serves a change of the sources without being asked', async () => {
  const port = await freePort()
  const base = `http://127.0.0.1:${port}`
  dev = spawn(process.execPath, ['infra/dev/dev.ts'], {
    cwd: folder,
    env: {
      ...process.env,
      GANGLION_DATABASE__URL: database.url,
      GANGLION_LISTENERS: `[{port: ${port}, bind: 127.0.0.1}]`,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  for (const stream of [dev.stdout, dev.stderr]) stream?.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const answer = async () =>
    (await fetch(`${base}/_matrix/client/nothing`).catch(() => undefined))?.text() ?? 'no answer'
  await expect.poll(answer, { timeout: 40_000, message: output }).toContain('This path is not known')

  const file = path.join(folder, 'shared/http/mount.ts')
  writeFileSync(file, readFileSync(file, 'utf8').replace('This path is not known', 'This path was changed'))
  await expect.poll(answer, { timeout: 40_000 }).toContain('This path was changed')
  expect(output).toContain('shared/http/mount.ts changed')

  // What does not start is told, and the next change is another chance.
  const source = readFileSync(file, 'utf8')
  writeFileSync(file, `${source}\nthrow new Error('broken on purpose')\n`)
  await expect.poll(() => output, { timeout: 40_000 }).toContain('it is started again at the next change')
  writeFileSync(file, source.replace('This path was changed', 'This path is well'))
  await expect.poll(answer, { timeout: 40_000 }).toContain('This path is well')
})
