import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
let database: TestDatabase
let server: ServerProcess
let http: HttpClient
beforeAll(async () => {
  database = await testDatabase()
  server = await serverProcess({ databaseUrl: database.url })
  await server.start()
  http = new HttpClient('127.0.0.1', server.port)
})
afterAll(async () => {
  http?.close()
  await server?.close()
  await database?.drop()
})

describe('client-server-api/#client-authentication', () => {
  test.each([
    { how: 'the device logs out', path: 'logout', body: {} },
    { how: 'all devices log out', path: 'logout/all', body: {} },
  ])('a sync that waits tells nothing of what happened after $how', async ({ path, body }) => {
    const { user_id, password, ...first } = await server.register(`user${path.length}`)
    const identifier = { type: 'm.id.user', user: user_id }
    const login = { type: 'm.login.password', identifier, password }
    const second = await http.json<{ access_token: string }>('POST', `${v3}/login`, undefined, login)
    const friend = await server.register(`friend${path.length}`)
    const { next_batch } = await http.json<{ next_batch: string }>('GET', `${v3}/sync`, second.access_token)
    const waiting = http.request('GET', `${v3}/sync?timeout=20000&since=${next_batch}`, second.access_token)
    // Sent after it, answered after it has begun to wait.
    await http.json('GET', `${v3}/sync`, first.access_token)
    await http.json('POST', `${v3}/${path}`, second.access_token, body)
    const room = { name: 'said afterwards', preset: 'private_chat', invite: [user_id] }
    await http.json('POST', `${v3}/createRoom`, friend.access_token, room)
    const { status, body: answer } = await waiting
    expect([200, 401]).toContain(status)
    expect(answer).not.toContain('said afterwards')
    expect((await http.request('GET', `${v3}/sync?since=${next_batch}`, second.access_token)).status).toBe(401)
  })

  test.each([
    { how: 'the device logs out', path: 'logout', body: {} },
    { how: 'all devices log out', path: 'logout/all', body: {} },
  ])('a sync that waits is answered at once when $how', async ({ path, body }) => {
    const { access_token } = await server.register(`at-once-${path.length}`)
    const { next_batch } = await http.json<{ next_batch: string }>('GET', `${v3}/sync`, access_token)
    const startedAt = performance.now()
    const waiting = http.request('GET', `${v3}/sync?timeout=20000&since=${next_batch}`, access_token)
    // Takes longer than the sync takes to begin its wait.
    await server.register(`other-${path.length}`)
    await http.json('POST', `${v3}/${path}`, access_token, body)
    expect([200, 401]).toContain((await waiting).status)
    expect(performance.now() - startedAt).toBeLessThan(10_000)
  })
})
