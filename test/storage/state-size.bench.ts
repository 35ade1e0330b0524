/** `GANGLION_TEST_DATABASE_URL=… node test/storage/state-size.bench.ts`: 10,000 members, 50,000 changes. */
import { testDatabase } from '../support/database.ts'
import { measureStateSize } from './state-size.ts'

const database = await testDatabase()
try {
  const start = performance.now()
  const size = await measureStateSize(database, { members: 10_000, changes: 50_000 })
  process.stdout.write(
    `${JSON.stringify({ ...size, ratio: size.storedBytes / size.jsonBytes, seconds: (performance.now() - start) / 1000 })}\n`,
  )
} finally {
  await database.drop()
}
