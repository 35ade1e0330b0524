/** PostgreSQL under a loaded server loses its connections, freezes, is killed and is away for a while. Meanwhile clients are
 *  told so in the way that the specification has for it; afterwards the same process goes on, with everything that it
 *  acknowledged stored once, and syncs without a gap. */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { ensureDatabase } from '../../functions/monolith/database.ts'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../functions/monolith/embedded-postgres.ts'
import { connectForReading } from '../../shared/storage/sql.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'

const v3 = '/_matrix/client/v3'
const encode = encodeURIComponent
/** The slowest any request may be: the driver's wait for an answer, and a little. */
const requestMsMax = 40_000

let folder: string
let postgres: EmbeddedPostgres
let server: ServerProcess

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'ganglion-faults-'))
  chmodSync(folder, 0o755)
  postgres = await startEmbeddedPostgres({ dir: path.join(folder, 'postgres') })
  server = await serverProcess({ databaseUrl: await ensureDatabase(postgres) })
  await server.start()
})
afterAll(async () => {
  await server?.close()
  await postgres?.stop()
  if (folder) rmSync(folder, { recursive: true, force: true })
})

function postmaster(): number {
  return Number(readFileSync(path.join(folder, 'postgres', 'cluster', 'postmaster.pid'), 'utf8').split('\n')[0])
}
function withChildren(pid: number): number[] {
  return [
    pid,
    ...execFileSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map(Number),
  ]
}
function signalAll(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
    }
  }
}
async function terminateBackends(): Promise<void> {
  const admin = connectForReading({ url: postgres.url('ganglion'), connections: 1, applicationName: 'faults' })
  await admin`select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'ganglion-%'`
  await admin.end()
}

interface Reply {
  readonly status: number
  readonly json: Record<string, unknown>
}

test('what happens to PostgreSQL happens to nobody else', { timeout: 120_000 }, async () => {
  const people: { user_id: string; access_token: string }[] = []
  for (let i = 0; i < 4; i++) people.push(await server.register(`fault${i}`))
  const [owner] = people
  if (!owner) throw new Error('no people')
  const { pid } = server
  const strange: string[] = []
  const counts = { ok: 0, unavailable: 0 }
  let slowestMs = 0
  let running = true

  async function ask(method: string, target: string, token: string, body?: unknown): Promise<Reply> {
    const beganMs = performance.now()
    const answer = await fetch(server.baseUrl + target, {
      method,
      headers: { Authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(requestMsMax),
    })
    const json = (await answer.json()) as Record<string, unknown>
    slowestMs = Math.max(slowestMs, performance.now() - beganMs)
    if (answer.status === 200) counts.ok++
    else if (answer.status === 503) {
      counts.unavailable++
      const told = json.errcode === 'M_UNAVAILABLE' && typeof json.error === 'string'
      if (!told || !(Number(answer.headers.get('retry-after')) >= 1)) strange.push(`${target}: ${JSON.stringify(json)}`)
    } else strange.push(`${method} ${target}: ${answer.status} ${JSON.stringify(json)}`)
    return { status: answer.status, json }
  }
  async function insist(method: string, target: string, token: string, body?: unknown): Promise<Reply['json']> {
    for (;;) {
      const { status, json } = await ask(method, target, token, body)
      if (status === 200) return json
      if (status !== 503 || !running) throw new Error(`${target}: ${status} ${JSON.stringify(json)}`)
      await sleep(50)
    }
  }

  const made = await insist('POST', `${v3}/createRoom`, owner.access_token, {
    preset: 'public_chat',
    power_level_content_override: { state_default: 0 },
  })
  const room_id = String(made.room_id)
  const room = `${v3}/rooms/${encode(room_id)}`
  for (const person of people.slice(1)) await insist('POST', `${room}/join`, person.access_token, {})

  const acknowledged = new Map<string, string>()
  const work = async (person: { user_id: string; access_token: string }, lane: number) => {
    for (let i = 0; running; i++) {
      const body = `fault ${lane} ${i}`
      const sent = await insist('PUT', `${room}/send/m.room.message/${encode(body)}`, person.access_token, { body })
      acknowledged.set(body, String(sent.event_id))
      if (i % 3 === 0) await insist('GET', `${room}/messages?dir=b&limit=20`, person.access_token)
      if (i % 7 === 0) {
        // New keys, caches and accounts: what a quiet server would answer from its memory.
        await insist('PUT', `${room}/state/org.test.lane/${lane}`, person.access_token, { i })
        const other = people[(lane + 1) % people.length]
        await insist('GET', `${v3}/profile/${encode(other?.user_id ?? '')}`, person.access_token)
      }
      await sleep(2)
    }
  }
  const lanes = people.map((person, lane) => work(person, lane).catch((error) => strange.push(String(error))))
  const filter = encode(JSON.stringify({ room: { timeline: { limit: 1000 } } }))
  const seen: string[] = []
  let since = ''
  const sync = async (timeout: number) => {
    const query = `timeout=${timeout}&filter=${filter}${since && `&since=${since}`}`
    const answer = await insist('GET', `${v3}/sync?${query}`, owner.access_token)
    since = String(answer.next_batch)
    interface Timeline {
      readonly limited?: boolean
      readonly events: { type: string; event_id: string }[]
    }
    const rooms = answer.rooms as { join?: Record<string, { timeline?: Timeline }> } | undefined
    const timeline = rooms?.join?.[room_id]?.timeline
    expect(timeline?.limited ?? false).toBe(false)
    for (const event of timeline?.events ?? []) if (event.type === 'm.room.message') seen.push(event.event_id)
  }
  await sync(0)
  const follower = (async () => {
    while (running) await sync(5_000)
  })().catch((error) => strange.push(String(error)))
  const isReady = async () => (await fetch(`${server.baseUrl}/ready`)).status
  const progress = async (why: string) => {
    const before = acknowledged.size
    expect(strange).toEqual([])
    await expect.poll(() => acknowledged.size, { timeout: 8_000, message: why }).toBeGreaterThan(before + 20)
    expect(await isReady(), why).toBe(200)
  }

  await progress('before')
  for (let i = 0; i < 5; i++) {
    await terminateBackends()
    await sleep(100)
  }
  await progress('after terminated backends')

  const processes = withChildren(postmaster())
  signalAll(processes, 'SIGSTOP')
  await expect.poll(isReady, { timeout: 20_000 }).toBe(503)
  signalAll(processes, 'SIGCONT')
  await progress('after a freeze')

  const told = counts.unavailable
  signalAll([postmaster()], 'SIGKILL')
  await expect.poll(() => counts.unavailable, { timeout: 10_000 }).toBeGreaterThan(told)
  expect(await isReady()).toBe(503)
  expect((await fetch(`${server.baseUrl}/live`)).status, 'an outage does not make the process look dead').toBe(200)
  postgres = await startEmbeddedPostgres({ dir: path.join(folder, 'postgres') })
  await progress('after a kill')

  // A crash of one backend: PostgreSQL ends all others and recovers by itself.
  const backend = withChildren(postmaster()).at(-1)
  if (backend) signalAll([backend], 'SIGKILL')
  await progress('after a crashed backend')

  running = false
  await Promise.all([...lanes, follower])
  await sync(0)

  expect(server.pid).toBe(pid)
  process.kill(pid, 0)
  expect(strange).toEqual([])
  const read = connectForReading({ url: postgres.url('ganglion'), connections: 1, applicationName: 'faults' })
  const stored = await read<{ event_id: string; content: string }[]>`
    select event_id, content from events where type = 'm.room.message' order by position`
  const [gaps] = await read<{ count: number; last: number }[]>`
    select count(position)::bigint as count, max(position)::bigint as last from events`
  await read.end()
  const byBody = new Map(stored.map((row) => [(JSON.parse(row.content) as { body: string }).body, row.event_id]))
  expect(byBody.size, 'no message is stored twice').toBe(stored.length)
  expect([...byBody].sort(), 'what was acknowledged is stored').toEqual([...acknowledged].sort())
  expect(seen, 'sync saw each message once, in order').toEqual(stored.map((row) => row.event_id))
  expect(gaps?.count, 'positions have no gaps').toBe(gaps?.last)
  console.log(`${acknowledged.size} messages, ${counts.unavailable} times 503, slowest ${Math.round(slowestMs)} ms`)
})
