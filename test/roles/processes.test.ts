/** Roles as real processes: what reaches the wrong one, what the database lets them do, and how they end. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startRoleProcess } from '../../infra/dev/role-process.ts'
import { type Roles, startRoles } from '../../infra/dev/roles.ts'
import type { Role } from '../../shared/http/route.ts'
import { connectForReading } from '../../shared/storage/sql.ts'
import { testBundles } from '../support/bundles.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { redisInstalled } from '../support/redis.ts'

const v3 = '/_matrix/client/v3'
const handlerRoles: readonly Role[] = ['sync', 'client', 'federation', 'media']

describe.runIf(redisInstalled)('roles as processes', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-roles-'))
  let database: TestDatabase
  let roles: Roles
  let dist: string
  beforeAll(async () => {
    ;[database, dist] = await Promise.all([testDatabase(), testBundles()])
    roles = await startRoles({
      folder,
      dist,
      databaseUrl: database.url,
      handlers: { sync: 2, client: 1, federation: 1, media: 1 },
      config: {
        server_name: 'roles.test',
        registration: { enabled: true },
        password: { bcrypt_rounds: 4 },
        rate_limits: { enabled: false },
        log: { level: 'warn' },
      },
      output: 'inherit',
    })
  })
  afterAll(async () => {
    await roles?.close()
    await database?.drop()
    rmSync(folder, { recursive: true, force: true })
  })

  const url = (role: Role | 'edge') => roles.urls(role)[0] ?? ''
  async function ask(base: string, pathAndQuery: string, token?: string, init: RequestInit = {}) {
    const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` }
    const response = await fetch(`${base}${pathAndQuery}`, { ...init, headers })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  async function register(name: string): Promise<string> {
    const { status, body } = await ask(url('client'), `${v3}/register`, undefined, {
      method: 'POST',
      body: JSON.stringify({ username: name, password: 'a good password', auth: { type: 'm.login.dummy' } }),
    })
    expect(status).toBe(200)
    return String(body.access_token)
  }
  const create = async (token: string) => {
    const { body } = await ask(url('client'), `${v3}/createRoom`, token, { method: 'POST', body: '{}' })
    return String(body.room_id)
  }
  const send = (token: string, room: string, txn: string) =>
    ask(url('client'), `${v3}/rooms/${encodeURIComponent(room)}/send/m.room.message/${txn}`, token, {
      method: 'PUT',
      body: JSON.stringify({ msgtype: 'm.text', body: txn }),
    })

  test('a port that another program has is found out before it answers in place of the process', async () => {
    const { configPath } = roles
    const taken = { role: 'edge', name: 'edge', port: Number(new URL(url('edge')).port), configPath, dist } as const
    const started = startRoleProcess({ ...taken, env: process.env, output: 'inherit', nodeArguments: [] })
    await expect(started).rejects.toThrow(`another program listens on 127.0.0.1:${taken.port}`)
  })

  test('all are ready, and the table says where they listen', async () => {
    for (const role of handlerRoles) {
      expect(await ask(url(role), '/ready')).toEqual({ status: 200, body: { ready: true, reasons: [], degraded: [] } })
      for (const probe of ['/health', '/live']) expect((await fetch(url(role) + probe)).status).toBe(200)
    }
    const table = roles.table()
    for (const one of roles.processes) expect(table).toContain(one.url)
    expect(roles.processes.map((one) => one.name)).toEqual([
      'edge',
      'sync 1',
      'sync 2',
      'client 1',
      'federation 1',
      'media 1',
      'main 1',
    ])
  })

  test('every handler answers every path: its own, or by passing it on', async () => {
    const token = await register('anywhere')
    for (const role of handlerRoles) {
      const base = url(role)
      expect((await ask(base, `${v3}/account/whoami`, token)).body).toMatchObject({ user_id: '@anywhere:roles.test' })
      expect((await ask(base, `${v3}/sync`, token)).body).toHaveProperty('next_batch')
      expect((await ask(base, '/_matrix/key/v2/server')).body).toMatchObject({
        server_name: 'roles.test',
        signatures: { 'roles.test': expect.anything() },
      })
      const upload = await ask(base, '/_matrix/media/v3/upload', token, { method: 'POST', body: 'x' })
      expect([role, upload.status, upload.body.content_uri]).toEqual([
        role,
        200,
        expect.stringMatching(/^mxc:\/\/roles\.test\//),
      ])
      expect((await ask(base, '/_matrix/nothing/of/the/kind')).status).toBe(404)
    }
  })

  test('a long poll at the wrong role wakes, and ends with its client', async () => {
    const token = await register('waits')
    const room = await create(token)
    const { body } = await ask(url('sync'), `${v3}/sync`, token)
    const poll = ask(url('media'), `${v3}/sync?since=${body.next_batch}&timeout=20000`, token)
    expect((await send(token, room, 'wake')).status).toBe(200)
    const woken = (await poll).body as { rooms?: { join?: Record<string, unknown> } }
    expect(Object.keys(woken.rooms?.join ?? {})).toEqual([room])

    const leave = new AbortController()
    const left = fetch(
      `${url('media')}${v3}/sync?since=${String((woken as { next_batch?: string }).next_batch)}&timeout=60000`,
      {
        headers: { Authorization: `Bearer ${token}` },
        signal: leave.signal,
      },
    )
    leave.abort()
    await expect(left).rejects.toThrow()
    expect((await send(token, room, 'after')).status).toBe(200)
  })

  test('handlers are connected as somebody whom the database refuses writes', async () => {
    const logins = await database.sql<{ usename: string; application_name: string }[]>`
      select distinct usename::text, application_name from pg_stat_activity
      where datname = current_database() and application_name in ('ganglion-sync', 'ganglion-client')`
    expect(logins.length).toBeGreaterThan(0)
    for (const { usename } of logins) {
      expect(usename).toMatch(/_handlers$/)
      const [may] = await database.sql`
        select bool_or(has_table_privilege(${usename}::text, oid, 'insert, update, delete, truncate')) as writes,
          bool_and(has_table_privilege(${usename}::text, oid, 'select')) as reads
        from pg_class where relkind in ('r', 'p') and relnamespace = 'public'::regnamespace`
      expect(may).toEqual({ writes: false, reads: true })
    }
    const { database: given } = JSON.parse(readFileSync(roles.configPath, 'utf8')) as { database: { read_url: string } }
    const handler = connectForReading({ url: given.read_url, connections: 1, applicationName: 'reader-test' })
    await expect(handler`insert into streams (name, position) values ('mine', 1)`).rejects.toMatchObject({
      code: '42501',
    })
    await handler.end()
  })

  test('a handler that is told to end answers its long polls, takes itself off the list and exits with 0', async () => {
    const token = await register('drains')
    const extra = await roles.add('sync')
    const { body } = await ask(extra.url, `${v3}/sync`, token)
    const poll = ask(extra.url, `${v3}/sync?since=${body.next_batch}&timeout=60000`, token)
    // Until it waits: the next request is answered after the poll has come in.
    await ask(extra.url, '/ready')
    const startedAt = performance.now()
    const code = extra.stop()
    await expect
      .poll(async () => (await ask(extra.url, '/ready')).body, { timeout: 1_500, interval: 20 })
      .toMatchObject({ ready: false, reasons: ['stopping'] })
    // Who does not know yet is served as ever.
    expect((await ask(extra.url, `${v3}/account/whoami`, token)).status).toBe(200)
    const answer = await poll
    expect([answer.status, answer.body.next_batch !== undefined]).toEqual([200, true])
    expect(await code).toBe(0)
    expect(performance.now() - startedAt).toBeLessThan(7_000)
    // And the edge knows better than to ask it.
    for (let i = 0; i < 10; i++) expect((await ask(url('edge'), `${v3}/sync`, token)).status).toBe(200)
  })

  test('a main beside others makes no signing key of its own', () => {
    const run = spawnSync(process.execPath, [path.join(dist, 'main.js'), '-c', roles.configPath], {
      encoding: 'utf8',
      env: {
        PATH: process.env.PATH,
        GANGLION_LISTENERS: '[{port: 0}]',
        GANGLION_SIGNING_KEY_PATH: path.join(folder, 'no-such.key'),
      },
    })
    expect([run.status, run.stdout]).toEqual([1, expect.stringContaining('no-such.key: there is no signing key')])
  })

  test('a handler without its settings says which, and exits with 2', () => {
    const run = spawnSync(process.execPath, [path.join(dist, 'sync.js')], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, GANGLION_SERVER_NAME: 'x.test', GANGLION_LISTENERS: '[{port: 0}]' },
    })
    expect(run.status).toBe(2)
    for (const key of ['redis.url', 'commands.secret', 'database.read_url']) expect(run.stderr).toContain(key)
  })
})
