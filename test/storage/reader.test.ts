/** Handlers read the database as a role that may not write. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { applyMigrations } from '../../shared/storage/apply-migrations.ts'
import { migrate } from '../../shared/storage/migrate.ts'
import { connectForReading, connectForWriting, type MainSql, type ReadSql } from '../../shared/storage/sql.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'

let database: TestDatabase
let reader: ReadSql
/** Asks for what only a writer may do, through the handle that cannot say so by its type. */
const refused = (statement: string) =>
  reader.unsafe(statement).then(
    () => 'done',
    (error: { code?: string }) => error.code,
  )
const insufficientPrivilege = '42501'

beforeAll(async () => {
  database = await testDatabase()
  reader = connectForReading({
    url: database.url,
    connections: 2,
    applicationName: 'reader-test',
    role: 'ganglion_reader',
  })
})
afterAll(async () => {
  await reader.end()
  await database.drop()
})

async function tables(): Promise<string[]> {
  const rows = await database.sql<{ name: string }[]>`
    select relname as name from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace`
  return rows.map((row) => row.name)
}

test('the reader reads every table', async () => {
  const names = await tables()
  expect(names.length).toBeGreaterThan(20)
  for (const name of names) await reader.unsafe(`select count(*) from ${name}`)
})

test('the database refuses it every way to write to any table', async () => {
  for (const name of await tables()) {
    expect([name, await refused(`insert into ${name} default values`)]).toEqual([name, insufficientPrivilege])
    expect([name, await refused(`delete from ${name}`)]).toEqual([name, insufficientPrivilege])
    expect([name, await refused(`truncate ${name}`)]).toEqual([name, insufficientPrivilege])
    expect([name, await refused(`drop table ${name}`)]).toEqual([name, insufficientPrivilege])
  }
  expect(await refused(`update streams set position = position`)).toBe(insufficientPrivilege)
  expect(await refused('select position from streams for update')).toBe(insufficientPrivilege)
  expect(await refused('create table mine (a int)')).toBe(insufficientPrivilege)
})

test('it may call no function that writes', async () => {
  const functions = await database.sql<{ definer: boolean; name: string }[]>`
    select proname as name, prosecdef as definer from pg_proc where pronamespace = 'public'::regnamespace`
  expect(functions.length).toBeGreaterThan(0)
  // A function runs as its caller, whom the tables refuse, unless it says otherwise.
  expect(functions.filter((one) => one.definer)).toEqual([])
})

test('tables of later migrations can be read too', async () => {
  await database.sql.unsafe('create table later (a int)')
  expect([...(await reader.unsafe('select a from later'))]).toEqual([])
  expect(await refused('insert into later values (1)')).toBe(insufficientPrivilege)
  await database.sql.unsafe('drop table later')
})

test('a login that may not make roles migrates all the same, and is told', async () => {
  const name = `ganglion_test_${randomBytes(6).toString('hex')}`
  const admin = database.sql
  await admin.unsafe(`create role ${name} login nosuperuser nocreaterole`)
  await admin.unsafe(`create database ${name} owner ${name}`)
  const url = new URL(database.url)
  url.pathname = `/${name}`
  url.username = name
  const poor = connectForWriting({ url: url.href, connections: 2, applicationName: 'reader-test' })
  try {
    const told: unknown[] = []
    await applyMigrations(poor, { info: (fields, message) => void told.push([fields, message]) })
    expect(await migrate(poor)).toEqual([])
    // The server's other databases have made the role already; this login was not granted it.
    expect(told.at(-1)).toEqual([
      { reason: expect.stringMatching(/^the login "?ganglion_test_\w+"? may not/) },
      expect.stringContaining('docs/roles.md'),
    ])
    await administratorGrants(admin, name)
    const [now] = await poor`select grant_reads() as refused`
    expect(now?.refused).toBeNull()
  } finally {
    await poor.end()
    await admin.unsafe(`drop database ${name} with (force)`)
    await admin.unsafe(`drop role ${name}`)
  }
})

/** As docs/roles.md tells an administrator to. */
async function administratorGrants(admin: MainSql, login: string): Promise<void> {
  await admin.unsafe(`grant ganglion_reader to ${login}`)
}
