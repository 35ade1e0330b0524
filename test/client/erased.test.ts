/** client-server-api/#post_matrixclientv3accountdeactivate: `erase`. */
import { afterAll, beforeAll, expect, test } from 'vitest'
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

test.each([true, false])('erase %s: who joins later reads the words, or a redacted copy', async (erase) => {
  const gone = await server.register(`gone-${erase}`)
  const friend = await server.register(`friend-${erase}`)
  const later = await server.register(`later-${erase}`)
  const { room_id } = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, gone.access_token, {
    preset: 'public_chat',
  })
  const inRoom = `rooms/${encodeURIComponent(room_id)}`
  await http.json('POST', `${v3}/${inRoom}/join`, friend.access_token, {})
  const say = (token: string, body: string, more: object = {}) =>
    http.json<{ event_id: string }>('PUT', `${v3}/${inRoom}/send/m.room.message/${body}`, token, {
      msgtype: 'm.text',
      body,
      ...more,
    })
  const root = await say(friend.access_token, 'asked')
  const relation = { 'm.relates_to': { rel_type: 'm.reference', event_id: root.event_id } }
  const said = await say(gone.access_token, 'confided', relation)
  await http.json('POST', `${v3}/account/deactivate`, gone.access_token, {
    erase,
    auth: {
      type: 'm.login.password',
      identifier: { type: 'm.id.user', user: gone.user_id },
      password: gone.password,
    },
  })
  await http.json('POST', `${v3}/${inRoom}/join`, later.access_token, {})

  const event = encodeURIComponent(said.event_id)
  const paths = [
    `${v3}/${inRoom}/messages?dir=b&limit=50`,
    `${v3}/${inRoom}/event/${event}`,
    `${v3}/${inRoom}/context/${event}`,
    `/_matrix/client/v1/${inRoom}/relations/${encodeURIComponent(root.event_id)}`,
    `${v3}/sync?filter=${encodeURIComponent('{"room":{"timeline":{"limit":50}}}')}`,
  ]
  for (const path of paths) {
    const read = async (token: string) => {
      const { status, body } = await http.request('GET', path, token)
      expect(status).toBe(200)
      expect(body).toContain(said.event_id)
      return body.includes('confided')
    }
    expect([path, await read(friend.access_token)]).toEqual([path, true])
    expect([path, await read(later.access_token)]).toEqual([path, !erase])
  }
})
