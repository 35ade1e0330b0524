/** Fresh, migrated databases for tests, on the server that GANGLION_TEST_DATABASE_URL names (the test runner sets it). */
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { migrate } from '../../shared/storage/migrate.ts'
import { connectForReading, connectForWriting, type MainSql, type ReadSql } from '../../shared/storage/sql.ts'

export interface TestDatabase {
  readonly url: string
  /** For what mains on this database keep beside it: they make it. It goes with the database. */
  readonly folder: string
  readonly sql: MainSql
  readonly read: ReadSql
  /** Runs these statements as one transaction, one transaction after the other. */
  transaction(run: (tx: MainSql) => Promise<void>): Promise<void>
  /** Closes the connections and drops the database. */
  drop(): Promise<void>
}

/** `create` is appended to `create database`, such as `template template0 locale 'C.UTF-8'`; `server` is another server. */
export async function testDatabase({
  create = '',
  server = process.env.GANGLION_TEST_DATABASE_URL,
}: {
  readonly create?: string
  readonly server?: string
} = {}): Promise<TestDatabase> {
  if (!server) throw new Error('GANGLION_TEST_DATABASE_URL is not set: run the tests with `npm test`')
  const name = `ganglion_test_${randomBytes(6).toString('hex')}`
  const admin = connectForWriting({ url: server, connections: 1, applicationName: 'ganglion-test' })
  await admin.unsafe(`create database ${name} ${create}`)
  const url = new URL(server)
  url.pathname = `/${name}`
  const sql = connectForWriting({ url: url.href, connections: 4, applicationName: 'ganglion-test' })
  await migrate(sql)
  const read = connectForReading({ url: url.href, connections: 4, applicationName: 'ganglion-test' })
  // A single connection, so that what is sent between begin and commit is in the transaction.
  const writer = connectForWriting({ url: url.href, connections: 1, applicationName: 'ganglion-test' })
  let last: Promise<unknown> = Promise.resolve()

  async function transact(run: (tx: MainSql) => Promise<void>): Promise<void> {
    await writer.unsafe('begin')
    try {
      await run(writer)
    } catch (error) {
      await writer.unsafe('rollback')
      throw error
    }
    await writer.unsafe('commit')
  }

  const folder = path.join(tmpdir(), name)
  return {
    url: url.href,
    folder,
    sql,
    read,
    transaction(run) {
      const mine = last.then(() => transact(run))
      last = mine.catch(() => undefined)
      return mine
    },
    async drop() {
      await Promise.all([sql.end(), read.end(), writer.end()])
      await admin.unsafe(`drop database if exists ${name} with (force)`)
      await admin.end()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
