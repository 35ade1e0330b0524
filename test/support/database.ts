/** Fresh, migrated databases for tests, on the server that GANGLION_TEST_DATABASE_URL names (the test runner sets it). */
import { randomBytes } from 'node:crypto'
import { migrate } from '../../shared/storage/migrate.ts'
import { connectForReading, connectForWriting, type MainSql, type ReadSql } from '../../shared/storage/sql.ts'

export interface TestDatabase {
  readonly url: string
  readonly sql: MainSql
  readonly read: ReadSql
  /** Closes the connections and drops the database. */
  drop(): Promise<void>
}

export async function testDatabase(): Promise<TestDatabase> {
  const server = process.env.GANGLION_TEST_DATABASE_URL
  if (!server) throw new Error('GANGLION_TEST_DATABASE_URL is not set: run the tests with `npm test`')
  const name = `ganglion_test_${randomBytes(6).toString('hex')}`
  const admin = connectForWriting({ url: server, connections: 1, applicationName: 'ganglion-test' })
  await admin.unsafe(`create database ${name}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  const sql = connectForWriting({ url: url.href, connections: 4, applicationName: 'ganglion-test' })
  await migrate(sql)
  const read = connectForReading({ url: url.href, connections: 4, applicationName: 'ganglion-test' })
  return {
    url: url.href,
    sql,
    read,
    async drop() {
      await Promise.all([sql.end(), read.end()])
      await admin.unsafe(`drop database if exists ${name} with (force)`)
      await admin.end()
    },
  }
}
