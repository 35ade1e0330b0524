import { afterAll, beforeAll, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { measureStateSize } from './state-size.ts'

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())

test('the states of a long history take no more than one and a half times the JSON of its state events', async () => {
  const size = await measureStateSize(database, { members: 1_000, changes: 6_000 })
  expect(size.members).toBe(size.expectedMembers)
  expect(size.storedBytes).toBeLessThanOrEqual(1.5 * size.jsonBytes)
})
