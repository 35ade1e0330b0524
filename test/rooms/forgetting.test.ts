import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

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

describe('client-server-api/#leaving-rooms', () => {
  test.each(['invite', 'ban'])(
    'what others do (%s) does not bring back what a user forgot; joining does',
    async (action) => {
      const alice = await server.register(`alice-${action}`)
      const bob = await server.register(`bob-${action}`)
      const post = (who: typeof alice, path: string, body: object = {}) =>
        http.json<{ room_id: string }>('POST', `/_matrix/client/v3/${path}`, who.access_token, body)
      const { room_id } = await post(alice, 'createRoom', { preset: 'public_chat' })
      const room = `rooms/${encodeURIComponent(room_id)}`
      const messages = async () =>
        (await http.request('GET', `/_matrix/client/v3/${room}/messages?dir=b`, bob.access_token)).status
      await post(bob, `${room}/join`)
      await post(bob, `${room}/leave`)
      expect(await messages()).toBe(200)
      await post(bob, `${room}/forget`)
      expect(await messages()).toBe(403)
      await post(alice, `${room}/${action}`, { user_id: bob.user_id })
      expect(await messages()).toBe(403)
      if (action === 'ban') return
      await post(bob, `${room}/leave`)
      expect(await messages()).toBe(403)
      await post(bob, `${room}/join`)
      expect(await messages()).toBe(200)
    },
  )
})
