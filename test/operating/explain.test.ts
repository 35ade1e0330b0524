/** `ganglion explain`: what the tables tell of one event. */
import { execFile } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Step, storyOf } from '../../infra/cli/explain/story.ts'
import type { EventId, ServerName } from '../../shared/matrix/ids.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type TestMain, testMain } from '../support/main.ts'

const now = 1_800_000_000_000
const server_name = 'hs1' as ServerName

let database: TestDatabase
beforeAll(async () => {
  database = await testDatabase()
  const { sql } = database
  await sql`insert into rooms (room_nid, room_id, room_version, creator, created_ts) values (1, '!r:hs1', '11', '@a:hs1', 0)`
  await sql`update streams set position = 90 where name = 'events'`
  await sql`insert into destinations (server_name, shard, cursor, transaction_id, transaction_upto, attempts, retry_ts,
      last_error, last_success_ts) values
    ('arrived', 0, 50, null, null, 0, null, null, ${now - 60_000}),
    ('under.way', 0, 49, 't', 50, 0, null, null, null),
    ('waits', 0, 10, null, null, 0, null, null, null),
    ('down', 0, 10, 't', 50, 3, ${now + 120_000}, 'no connection', null),
    ('left.before', 0, 10, null, null, 0, null, null, null),
    ('came.later', 0, 10, null, null, 0, null, null, null),
    ('invited', 0, 60, null, null, 0, null, null, null)`
  await sql`insert into room_servers (room_nid, server_name, since, until, joined) values
    (1, 'arrived', 1, null, 1), (1, 'under.way', 50, null, 1), (1, 'waits', 1, 50, 0), (1, 'down', 1, null, 1),
    (1, 'left.before', 1, 49, 0), (1, 'came.later', 51, null, 1)`
})
afterAll(() => database?.drop())

let nid = 0
/** Stores an event as it is given, and tells its story, by step. */
async function story(event: {
  readonly sender?: string
  readonly position?: number | null
  readonly flags?: number
  readonly auth?: readonly string[]
  readonly device?: string
  readonly stored?: number | null
  readonly outbound?: string | null
}): Promise<Record<string, Step[]>> {
  const { sql } = database
  const {
    sender = '@a:hs1',
    position = null,
    flags = 0,
    auth = [],
    device = null,
    stored = now - 1500,
    outbound,
  } = event
  const event_id = `$event${++nid}` as EventId
  const envelope = JSON.stringify({ auth_events: auth, prev_events: ['$nowhere'] })
  await sql`insert into events (event_nid, event_id, room_nid, position, depth, type, sender, origin_server_ts, content, envelope,
      state_root, flags, device_id, stored_ts)
    values (${nid}, ${event_id}, 1, ${position}, 1, 'm.room.message', ${sender}, ${now - 2000}, '{}', ${envelope}, 0, ${flags},
      ${device}, ${stored})`
  if (outbound !== undefined) {
    await sql`insert into outbound_events (position, room_nid, event_nid, origin, also_to)
      values (${position}, 1, ${nid}, 'hs1', ${outbound})`
  }
  const steps = await storyOf(database.read, { event_id, server_name, now })
  if (position !== null) await sql`update events set position = null where event_nid = ${nid}`
  await sql`delete from outbound_events`
  return Object.groupBy(steps ?? [], ({ step }) => step) as Record<string, Step[]>
}
const told = (steps: readonly Step[] | undefined) => steps?.map(({ what }) => what).join('\n') ?? ''

describe('an event of this server', () => {
  test('is with whoever was in the room then, or is for it, and says how each stands', async () => {
    const { sent } = await story({ position: 50, device: 'PHONE', outbound: 'invited' })
    expect(Object.fromEntries(sent?.map(({ to, what }) => [to, what]) ?? [])).toEqual({
      arrived: 'it has it; it last answered 1 minutes ago',
      'under.way': 'on its way',
      waits: 'waits for its turn',
      down: 'on its way; 3 attempts failed, the last: no connection; the next is in 2 minutes',
      invited: 'it has it',
    })
  })

  test('was made, stored and published', async () => {
    const { received, checked, stored, published } = await story({ position: 50, device: 'PHONE' })
    expect(told(received)).toBe('made here by device PHONE')
    expect(told(checked)).toBe('allowed')
    expect(stored).toEqual([
      {
        step: 'stored',
        what: 'in the timeline; 1 of 1 previous events are not here; 500 ms after its own time',
        at: now - 1500,
      },
    ])
    expect(published).toMatchObject([
      { at: now - 1500, what: expect.stringContaining('position 50 of stream events, which stands at 90') },
    ])
  })

  test('from before times were kept', async () => {
    const { stored } = await story({ position: 50, stored: null })
    expect(told(stored)).toMatch(/before times were kept/)
    expect(stored?.[0]).not.toHaveProperty('at')
  })
})

describe('an event of another server', () => {
  const sender = '@b:hs2'
  test('is not sent on', async () => {
    const { received, sent } = await story({ sender, position: 51 })
    expect(told(received)).toBe('from another server; hs2 made it')
    expect(told(sent)).toBe('no: its own server sends it')
  })

  test.each([
    ['rejected', 1, /rejected by the authorisation rules of m.room.message/],
    ['soft-failed', 2, /soft-failed: allowed where it was sent/],
  ])('that was %s is nowhere', async (_, flags, said) => {
    const { checked, published, sent } = await story({ sender, flags })
    expect(told(checked)).toMatch(said)
    expect(told(published)).toBe('no: clients never see it')
    expect(told(sent)).toMatch(/^no/)
  })

  test('that rests on a rejected one, and on one that is not here', async () => {
    await story({ sender, flags: 1 })
    const { checked } = await story({ sender, flags: 1, auth: [`$event${nid}`, '$gone'] })
    expect(told(checked)).toMatch(
      new RegExp(`it rests on what was rejected: m.room.message .event${nid - 1}; 1 of its auth`),
    )
  })

  test('that is an outlier, or history', async () => {
    expect(told((await story({ sender, flags: 4 })).stored)).toMatch(/^as an outlier/)
    const { stored, published } = await story({ sender, position: -3 })
    expect(told(stored)).toMatch(/^as history/)
    expect(told(published)).toMatch(/^no/)
  })

  test('that waits for what it builds on', async () => {
    for (const id of ['$first', '$waits']) {
      await database.sql`insert into staged_pdus (room_nid, event_id, origin, received_ts, content, envelope)
        values (1, ${id}, 'hs2', ${now}, '{}', '{}')`
    }
    const steps = await storyOf(database.read, { event_id: '$waits' as EventId, server_name, now })
    expect(steps).toMatchObject([
      { step: 'received', at: now, what: 'from hs2, for !r:hs1' },
      { step: 'checked' },
      { step: 'stored', what: expect.stringContaining('behind 1 others') },
    ])
  })

  test('that nobody knows', async () => {
    expect(await storyOf(database.read, { event_id: '$none' as EventId, server_name, now })).toBeUndefined()
  })
})

describe('the command', () => {
  const program = path.resolve(import.meta.dirname, '../../infra/cli/ganglion.ts')
  let main: TestMain
  let file: string
  beforeAll(async () => {
    main = await testMain()
    mkdirSync(main.database.folder, { recursive: true })
    file = path.join(main.database.folder, 'homeserver.yaml')
    writeFileSync(file, JSON.stringify({ server_name, database: { url: main.database.url } }))
  })
  afterAll(() => main?.drop())
  const explain = (...args: string[]) =>
    new Promise<{ code: number; out: string; err: string }>((resolve) => {
      execFile(
        process.execPath,
        [program, 'explain', ...args],
        { env: { PATH: process.env.PATH } },
        (error, out, err) => resolve({ code: error ? Number(error.code) : 0, out, err }),
      )
    })

  test('tells of an event as it was stored', async () => {
    const user_id = await main.user('alice')
    const { room_id } = await main.commands.createRoom({ user_id, preset: 'private_chat' })
    const before = Date.now()
    const { event_id } = await main.commands.sendEvent({
      user_id,
      room_id,
      type: 'm.room.message',
      content: { body: 'x' },
    })
    const { code, out } = await explain(event_id, '-c', file, '--json')
    expect(code).toBe(0)
    const steps = out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Step)
    expect(steps.map(({ step }) => step)).toEqual(['event', 'received', 'checked', 'stored', 'published', 'sent'])
    const at = steps.find(({ step }) => step === 'stored')?.at ?? 0
    // Its clock is the database's, which is this machine's.
    expect(at).toBeGreaterThanOrEqual(before - 1)
    expect(at).toBeLessThanOrEqual(Date.now() + 1)
    expect(steps.at(-1)?.what).toBe('to nobody: no other server was in the room')
    expect((await explain(event_id, '-c', file)).out).toMatch(
      /Z {2}stored {5}in the timeline; it is one of the newest events/,
    )
  })

  test('says what it does not know', async () => {
    expect(await explain('$none', '-c', file)).toMatchObject({
      code: 1,
      err: expect.stringContaining('not known here'),
    })
    expect(await explain('none', '-c', file)).toMatchObject({ code: 2, err: expect.stringContaining('no event id') })
    expect((await explain('-c', file)).code).toBe(2)
  })
})
