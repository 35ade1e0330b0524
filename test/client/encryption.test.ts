/** End-to-end encryption as clients do it, and what it asks of a server that is one process. */
import { afterAll, beforeAll, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'
import { encryptionStory } from './encryption-story.ts'

let database: TestDatabase
let server: ServerProcess
beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
})
afterAll(async () => {
  await server?.close()
  await database?.drop()
})

let people = 0

test.each(['sync', 'sliding sync'] as const)(
  'client-server-api/#end-to-end-encryption by %s: two users and their devices, through kills of the server',
  { timeout: 240_000 },
  async (by) => {
    await encryptionStory(
      {
        baseUrl: server.baseUrl,
        register: (name) => server.register(`${name}${++people}`),
        async restart() {
          await server.kill()
          await server.start()
        },
      },
      by,
    )
  },
)
