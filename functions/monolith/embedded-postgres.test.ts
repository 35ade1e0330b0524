import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { connectForReading } from '../../shared/storage/sql.ts'
import { type EmbeddedPostgres, runningPostgresUrl, startEmbeddedPostgres } from './embedded-postgres.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'ganglion-embedded-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function answer(server: EmbeddedPostgres): Promise<unknown> {
  const sql = connectForReading({ url: server.url('postgres'), connections: 1, applicationName: 'test' })
  const [row] = await sql`select 1 as one`
  await sql.end()
  return row?.one
}

test('makes a database, takes over one that is running, and leaves none behind', async () => {
  const dir = path.join(folder, 'postgres')
  expect(runningPostgresUrl(dir, 'x')).toBeUndefined()
  const first = await startEmbeddedPostgres({ dir, unsafeFast: true })
  expect(first.created).toBe(true)
  expect(await answer(first)).toBe(1)

  // As after the death of the process that started it: nobody stopped it.
  const second = await startEmbeddedPostgres({ dir, unsafeFast: true })
  expect(second.created).toBe(false)
  expect(await answer(second)).toBe(1)
  expect(runningPostgresUrl(dir, 'postgres')).toBe(second.url('postgres'))
  await second.stop()
  expect(runningPostgresUrl(dir, 'postgres')).toBeUndefined()

  const third = await startEmbeddedPostgres({ dir, unsafeFast: true })
  expect(third.created).toBe(false)
  expect(await answer(third)).toBe(1)
  await third.stop()
  await expect(answer(third)).rejects.toThrow()
})
