import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../../test/support/database.ts'
import { listMigrations, pendingMigrations } from './known-migrations.ts'
import { migrate } from './migrate.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database?.drop())

const recorded = () =>
  database.sql<{ name: string; checksum: string | null }[]>`
    select name, checksum from schema_migrations order by version`

test('each applied migration is recorded with the checksum of its file', async () => {
  const known = await listMigrations()
  expect(await recorded()).toEqual(known.map(({ name, checksum }) => ({ name, checksum })))
  expect(await migrate(database.sql)).toEqual([])
})

test('a file that was changed after it was applied is refused by its name, and nothing is applied', async () => {
  const { sql } = database
  await sql`update schema_migrations set checksum = 'of another text' where version = 2`
  await expect(migrate(sql)).rejects.toThrow('migration 0002_commit.sql was changed after it was applied')
  await expect(pendingMigrations(sql)).rejects.toThrow('0002_commit.sql')
  const { checksum = '' } = (await listMigrations())[1] ?? {}
  await sql`update schema_migrations set checksum = ${checksum} where version = 2`
  expect(await migrate(sql)).toEqual([])
})

test('two files of one number are refused', async () => {
  const { sql } = database
  await sql`update schema_migrations set name = '0003_other.sql' where version = 3`
  await expect(migrate(sql)).rejects.toThrow('under another name, 0003_other.sql')
  await sql`update schema_migrations set name = ${(await listMigrations())[2]?.name ?? ''} where version = 3`
})

test('a database from before checksums gets them, and keeps later versions’ migrations', async () => {
  const { sql } = database
  await sql`alter table schema_migrations drop column checksum`
  await sql`insert into schema_migrations (version, name) values (9999, '9999_of_a_later_version.sql')`
  expect(await migrate(sql)).toEqual([])
  const rows = await recorded()
  expect(rows.filter(({ checksum }) => checksum === null).map(({ name }) => name)).toEqual([
    '9999_of_a_later_version.sql',
  ])
})
