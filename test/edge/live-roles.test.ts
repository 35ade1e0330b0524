/** A user's first minutes through each form of the edge, before real roles: handlers that come and go in Redis for Node's,
 *  URLs in variables for the Worker. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { roles } from '../../shared/http/route-table.ts'
import { redisInstalled } from '../support/redis.ts'
import { type TestRoles, testRoles } from '../support/roles.ts'
import { until } from './support.ts'
import { type RunningWorker, startWorker } from './workerd.ts'

const v3 = '/_matrix/client/v3'
interface SyncAnswer {
  next_batch: string
  rooms?: { join?: Record<string, { timeline: { events: { content: { body?: string } }[] } }> }
}

describe.runIf(redisInstalled)('before real roles', () => {
  let installation: TestRoles
  let worker: RunningWorker
  beforeAll(async () => {
    installation = await testRoles({ handlers: { sync: 2, client: 2, federation: 1, media: 1 } })
    const variables = roles.map(
      (role) => [`${role.toUpperCase()}_UPSTREAMS`, installation.urls(role).join(',')] as const,
    )
    worker = await startWorker(Object.fromEntries(variables))
  })
  afterAll(async () => {
    await worker?.close()
    await installation?.close()
  })

  test.each(['Node', 'Worker'] as const)('on %s: register, make a room, send, sync', async (kind) => {
    const base = kind === 'Node' ? installation.url : worker.url
    const { access_token: token, user_id } = await installation.register(`user-${kind.toLowerCase()}`)
    const ask = async <T>(method: string, target: string, body?: unknown): Promise<T> => {
      const init = { method, headers: { Authorization: `Bearer ${token}` } }
      const answer = await fetch(
        `${base}${target}`,
        body === undefined ? init : { ...init, body: JSON.stringify(body) },
      )
      const text = await answer.text()
      expect([answer.status, text]).toEqual([200, text])
      return JSON.parse(text) as T
    }
    expect(await ask('GET', `${v3}/account/whoami`)).toMatchObject({ user_id })
    const { room_id: room } = await ask<{ room_id: string }>('POST', `${v3}/createRoom`, {})
    const { next_batch: since } = await ask<SyncAnswer>('GET', `${v3}/sync`)
    const poll = ask<SyncAnswer>('GET', `${v3}/sync?since=${since}&timeout=20000`)
    const sendPath = `${v3}/rooms/${encodeURIComponent(room)}/send/m.room.message`
    await ask('PUT', `${sendPath}/1`, { msgtype: 'm.text', body: 'hello' })
    const { rooms } = await poll
    expect(rooms?.join?.[room]?.timeline.events.map(({ content }) => content.body)).toEqual(['hello'])
  })

  test('what no role serves yet is answered by the role that will', async () => {
    for (const target of ['/_matrix/federation/v1/version/none', '/_matrix/media/v3/none', `${v3}/none`]) {
      const answer = await fetch(`${installation.url}${target}`)
      expect(answer.status).toBe(404)
      expect(await answer.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED' })
    }
  })

  test('a handler that stops is not asked any more, one that starts is: no request fails', async () => {
    const { access_token: token } = await installation.register('steady')
    const headers = { Authorization: `Bearer ${token}` }
    let ended = false
    const statuses: number[] = []
    const asking = (async () => {
      while (!ended) {
        const method = statuses.length % 2 === 0 ? 'GET' : 'POST'
        const init = method === 'GET' ? { headers } : { method: 'POST', headers, body: '{"preset":"private_chat"}' }
        const answer = await fetch(`${installation.url}${v3}/${method === 'GET' ? 'joined_rooms' : 'createRoom'}`, init)
        await answer.arrayBuffer()
        statuses.push(answer.status)
      }
    })()
    await until(() => statuses.length > 5, 'requests flow')
    await installation.of('client')[0]?.stop()
    await installation.add('client')
    await installation.of('client')[1]?.stop()
    ended = true
    await asking
    expect(new Set(statuses)).toEqual(new Set([200]))
  })
})
