/** Behind a pooler in transaction mode, where each transaction may run on another connection of the database. */
import { expect, test } from 'vitest'
import { makeReaderLogin } from '../../infra/dev/reader-login.ts'
import { configFrom } from '../../shared/config/load.ts'
import { connectAsReader } from '../../shared/role/read-connection.ts'
import { connectForReading, type ReadSql } from '../../shared/storage/sql.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { HttpClient } from '../support/http-client.ts'
import { poolerVersion, startPooler } from '../support/pooler.ts'
import { serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'

test.runIf(poolerVersion)('the server works through a pooler in transaction mode', async () => {
  const database = await testDatabase()
  const pooler = await startPooler(database.url)
  try {
    const reads = connectForReading({ url: pooler.url, connections: 8, applicationName: 'pooler-test', prepare: false })
    const ask = (n: number) => reads`select ${n}::int as n, pg_sleep(0.005)`.then(([row]) => row?.n)
    const asked = Array.from({ length: 200 }, (_, i) => i)
    expect(await Promise.all(asked.map(ask))).toEqual(asked)
    await reads.end()

    const config = 'limits: { sync_cache: 1M }'
    const server = await serverProcess({ databaseUrl: pooler.url, database: 'prepare: false', config })
    await server.start()
    const people = await Promise.all([0, 1, 2, 3].map((i) => server.register(`pooled${i}`)))
    const http = new HttpClient('127.0.0.1', server.port)
    const [owner] = people
    const made = await http.json<{ room_id: string }>('POST', `${v3}/createRoom`, owner?.access_token, {
      preset: 'public_chat',
    })
    const room = `${v3}/rooms/${encodeURIComponent(made.room_id)}`
    const work = async (token: string, name: number) => {
      await http.json('POST', `${room}/join`, token, {})
      for (let i = 0; i < 25; i++) {
        await http.json('PUT', `${room}/send/m.room.message/${name}.${i}`, token, { body: `${name}.${i}` })
        await http.json('GET', `${room}/messages?dir=b&limit=5`, token)
        await http.json('GET', `${v3}/sync`, token)
      }
    }
    await Promise.all(people.map((person, i) => work(person.access_token, i)))
    const { chunk } = await http.json<{ chunk: { type: string }[] }>(
      'GET',
      `${room}/messages?dir=f&limit=500`,
      owner?.access_token,
    )
    expect(chunk.filter((event) => event.type === 'm.room.message').length).toBe(100)
    http.close()
    await server.close()
  } finally {
    await pooler.close()
    await database.drop()
  }
})

test.runIf(poolerVersion)(
  'a hundred handlers share the few connections of a pooler, as logins that may only read',
  async () => {
    const serverConnections = 30
    const database = await testDatabase()
    const login = await makeReaderLogin(database.url)
    const pooler = await startPooler(login.url, serverConnections)
    const pools: ReadSql[] = []
    const warnings: unknown[] = []
    const log = { warn: (fields: unknown, message: string) => void warnings.push([fields, message]) }
    try {
      const { database: settings } = configFrom({
        server_name: 'test.local',
        database: { read_url: pooler.url, prepare: false },
      })
      for (let i = 0; i < 100; i++) pools.push(await connectAsReader({ database: settings }, `handler-${i}`, log))
      const ask = (sql: ReadSql, n: number) => sql`select ${n}::int as n, pg_sleep(0.002)`.then(([row]) => row?.n)
      const asked = Array.from({ length: 1_000 }, (_, i) => i)
      const [answers, most] = await Promise.all([
        Promise.all(asked.map((n) => ask(pools[n % pools.length] as ReadSql, n))),
        mostConnections(database, login.url),
      ])
      expect(answers).toEqual(asked)
      expect(most).toBeGreaterThan(0)
      expect(most).toBeLessThanOrEqual(serverConnections)
      const [sql] = pools as [ReadSql]
      await expect(sql`insert into streams (name, position) values ('mine', 1)`).rejects.toMatchObject({
        code: '42501',
      })
      expect(warnings).toEqual([])
    } finally {
      await Promise.all(pools.map((pool) => pool.end()))
      await pooler.close()
      await login.drop()
      await database.drop()
    }
  },
)

/** Of this login at the server, over the time that the requests take. */
async function mostConnections(database: TestDatabase, loginUrl: string): Promise<number> {
  let most = 0
  for (let i = 0; i < 20; i++) {
    const [row] = await database.sql<{ count: number }[]>`
      select count(*)::int as count from pg_stat_activity where usename = ${new URL(loginUrl).username}`
    most = Math.max(most, row?.count ?? 0)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return most
}

test.runIf(poolerVersion)('a handler without a login of its own says so behind a pooler, and reads', async () => {
  const database = await testDatabase()
  const pooler = await startPooler(database.url)
  const warnings: string[] = []
  const log = { warn: (_: unknown, message: string) => void warnings.push(message) }
  const { database: settings } = configFrom({
    server_name: 'test.local',
    database: { url: pooler.url, prepare: false },
  })
  const sql = await connectAsReader({ database: settings }, 'handler', log)
  try {
    expect((await sql`select name from streams`).length).toBeGreaterThan(0)
    expect(warnings).toEqual([expect.stringContaining('Set database.read_url')])
  } finally {
    await sql.end()
    await pooler.close()
    await database.drop()
  }
})
