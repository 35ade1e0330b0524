/** The server with a PostgreSQL of its own: either of the two is killed, and what was acknowledged stays. */
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { HttpClient } from '../support/http-client.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent
const kills = 10

let server: ServerProcess
let token: string
let room: string
beforeAll(async () => {
  server = await serverProcess({})
  await server.start()
  token = (await server.register('embedded')).access_token
  const http = new HttpClient('127.0.0.1', server.port)
  const { room_id } = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, token, {})
  room = `${v3}/rooms/${encode(room_id)}`
  http.close()
})
afterAll(async () => {
  const pid = postmaster()
  await server?.close()
  const status = `/proc/${pid}/status`
  const left = existsSync(status) ? /^State:\s*(\w)/m.exec(readFileSync(status, 'utf8'))?.[1] : 'nothing'
  expect(['nothing', 'Z'], 'no database is left running').toContain(left)
})

function postmaster(): number {
  const file = path.join(server.folder, 'data', 'postgres', 'cluster', 'postmaster.pid')
  return Number(readFileSync(file, 'utf8').split('\n')[0])
}

/** Sends until something fails, and adds what was acknowledged to `sent`. */
async function sendUntilFailure(name: string, sent: string[], until = () => false): Promise<void> {
  const http = new HttpClient('127.0.0.1', server.port)
  const lane = async (lane: number) => {
    for (let i = 0; ; i++) {
      const target = `${room}/send/m.room.message/${encode(`${name} ${lane} ${i}`)}`
      const answer = await http.request('PUT', target, token, { body: 'x' })
      if (answer.status !== 200 || until()) return
      sent.push((JSON.parse(answer.body) as { event_id: string }).event_id)
    }
  }
  await Promise.allSettled([0, 1, 2, 3].map(lane))
  http.close()
}

async function expectStored(eventIds: readonly string[]): Promise<void> {
  const http = new HttpClient('127.0.0.1', server.port)
  for (const id of eventIds.slice(-20)) await http.json('GET', `${room}/event/${encode(id)}`, token)
  http.close()
}

test(`${kills} kills of the server: the next start takes the database over`, { timeout: 240_000 }, async () => {
  for (let kill = 0; kill < kills; kill++) {
    const sent: string[] = []
    const sending = sendUntilFailure(`kill ${kill}`, sent)
    await expect.poll(() => sent.length, { timeout: 10_000 }).toBeGreaterThan(0)
    await sleep(40 * kill)
    const before = postmaster()
    await server.kill()
    await sending
    // Every other time the database dies as well, and its children with it or after it.
    if (kill % 2 === 1) process.kill(before, 'SIGKILL')
    await server.start()
    if (kill % 2 === 0) expect(postmaster()).toBe(before)
    await expectStored(sent)
  }
})

test('a database that is killed is started again, by the same server', async () => {
  const { pid } = server
  for (let kill = 0; kill < 2; kill++) {
    const sent: string[] = []
    let ready = 0
    const sending = sendUntilFailure(`database ${kill}`, sent, () => ready === 200)
    await expect.poll(() => sent.length, { timeout: 10_000 }).toBeGreaterThan(0)
    const before = postmaster()
    process.kill(before, 'SIGKILL')
    await expect.poll(postmaster, { timeout: 30_000 }).not.toBe(before)
    const ask = async () => {
      ready = (await fetch(`${server.baseUrl}/ready`)).status
      return ready
    }
    await expect.poll(ask, { timeout: 30_000 }).toBe(200)
    await sending
    await expectStored(sent)
    const more = new HttpClient('127.0.0.1', server.port)
    await more.json('PUT', `${room}/send/m.room.message/after%20${kill}`, token, { body: 'x' })
    more.close()
  }
  expect(server.pid).toBe(pid)
  process.kill(pid, 0)
})
