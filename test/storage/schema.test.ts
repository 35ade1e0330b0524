import { afterAll, beforeAll, expect, test } from 'vitest'
import { committedStreams } from '../../functions/main/persist/commit-batch.ts'
import { streamNames, streams } from '../../shared/streams/registry.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())

test('every table names its owner and its retention', async () => {
  const tables = await database.sql<{ name: string; comment: string | null }[]>`
    select relname as name, obj_description(oid, 'pg_class') as comment from pg_class
    where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace order by relname`
  expect(tables.length).toBeGreaterThan(10)
  expect(tables.filter(({ comment }) => !/^owner: \S+; retention: \S/.test(comment ?? ''))).toEqual([])
})

test('every owner is a folder or module of the project', async () => {
  const rows = await database.sql<{ owner: string }[]>`
    select distinct substring(obj_description(oid, 'pg_class') from 'owner: ([^;]+);') as owner from pg_class
    where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace`
  for (const { owner } of rows) expect(owner).toMatch(/^(?:functions\/main|shared)\//)
})

test('text that orders or identifies rows does not depend on the locale of the database', async () => {
  const columns = await database.sql`
    select distinct c.relname as table_name, a.attname as column_name
    from pg_index i
    join pg_class c on c.oid = i.indrelid
    join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey::smallint[])
    where c.relnamespace = 'public'::regnamespace and a.atttypid = 'text'::regtype
      and a.attcollation <> (select oid from pg_collation where collname = 'C')`
  expect(columns).toEqual([])
})

test('the streams that are kept in the database, or written with others, have their row', async () => {
  const names = (await database.sql<{ name: string }[]>`select name from streams`).map((row) => row.name)
  for (const name of streamNames) if (streams[name].kept === 'postgres') expect(names).toContain(name)
  for (const name of committedStreams) expect(names).toContain(name)
})
