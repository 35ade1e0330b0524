/** Mails that are on their way: none acknowledged is lost, and none goes out twice for one attempt. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import * as v from 'valibot'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { createLinkTokens } from '../../functions/main/link-tokens.ts'
import { createDeliver, type Deliver, RefusedError } from '../../functions/main/outbox/deliver.ts'
import { intoOutbox, type Message } from '../../functions/main/outbox/messages.ts'
import { type Outbox, startOutbox } from '../../functions/main/outbox/outbox.ts'
import { loadTemplates } from '../../functions/main/outbox/templates.ts'
import { fakeClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import { generateSigningKey } from '../../shared/matrix/signatures.ts'
import type { WriteTx } from '../../shared/storage/sql.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type MailServer, mailServer } from '../support/mail-server.ts'

const minuteMs = 60_000
const links = createLinkTokens(generateSigningKey('a_test'))
const message: Message = { template: 'add', sid: 'sid' }
const clock = fakeClock()
let database: TestDatabase
let running: Outbox[] = []
let logged: { message: string; fields: Record<string, unknown> }[] = []

beforeAll(async () => {
  database = await testDatabase()
})
afterAll(() => database.drop())
afterEach(async () => {
  for (const outbox of running) await outbox.close()
  running = []
  logged = []
  await database.sql`delete from outbox`
})

function outboxOf(deliver: Deliver): Outbox {
  const log = { error: (fields: object, text: string) => void logged.push({ message: text, fields: { ...fields } }) }
  const outbox = startOutbox({ sql: database.sql, clock, deliver, giveUpAfterMs: 24 * 60 * minuteMs, log })
  running.push(outbox)
  return outbox
}

async function write(address: string, lifetimeMs = 60 * minuteMs): Promise<void> {
  const times = { now: clock.now(), expires_ts: clock.now() + lifetimeMs }
  await database.transaction(async (tx) => {
    await intoOutbox(tx as unknown as WriteTx, { medium: 'email', address }, message, times)
  })
}
const left = () => database.sql<{ address: string; attempts: number; due_ts: number }[]>`
  select address, attempts, due_ts from outbox order by message_id`

/** Looks until it is so. A main looks each time, as it does every ten seconds. */
const eventually = <T>(look: () => T) =>
  expect.poll(
    () => {
      for (const outbox of running) outbox.wake()
      return look()
    },
    { timeout: 15_000 },
  )

/** What is handed over, and when. */
function recorded(outcome: (address: string) => Promise<void> = async () => {}) {
  const sent: { address: string; name: string }[] = []
  const deliver: Deliver = {
    async send(to, _, name) {
      sent.push({ address: to.address, name })
      await outcome(to.address)
    },
    close() {},
  }
  return { sent, deliver }
}

describe('the outbox', () => {
  test('sends what was there at the start, each once, with several mains at work', async () => {
    for (let i = 0; i < 45; i++) await write(`u${i}@x`)
    const { sent, deliver } = recorded()
    outboxOf(deliver)
    outboxOf(deliver)
    outboxOf(deliver)
    await eventually(left).toEqual([])
    expect(new Set(sent.map(({ address }) => address)).size).toBe(45)
    expect(sent).toHaveLength(45)
  })

  test('tries again, later and later, under the same name, and gives up when it is of no use', async () => {
    await write('slow@x', 5 * minuteMs)
    const { sent, deliver } = recorded(async () => {
      throw new Error('busy')
    })
    outboxOf(deliver)
    await eventually(() => logged.length).toBe(1)
    await eventually(async () => (await left())[0]?.due_ts).toBe(clock.now() + minuteMs)
    clock.advance(minuteMs)
    await eventually(() => logged.length).toBe(2)
    await eventually(async () => (await left())[0]?.due_ts).toBe(clock.now() + 2 * minuteMs)
    clock.advance(2 * minuteMs)
    await eventually(left).toEqual([])
    expect(logged.map((entry) => entry.message)).toEqual([
      'a message could not be sent; it is tried again',
      'a message could not be sent; it is tried again',
      'a message was given up',
    ])
    expect(new Set(sent.map(({ name }) => name)).size).toBe(1)
    expect(JSON.stringify(logged.map(({ fields: { err, ...rest } }) => rest))).not.toContain('slow@x')
  })

  test('does not try again what is refused', async () => {
    await write('refused@x')
    const { sent, deliver } = recorded(async () => {
      throw new RefusedError('no such user')
    })
    outboxOf(deliver)
    await eventually(left).toEqual([])
    expect(sent).toHaveLength(1)
    expect(logged.map((entry) => entry.message)).toEqual(['a message was given up'])
  })

  test('what a main that died had taken is sent by another once its time is over', async () => {
    await write('orphan@x')
    const dead = recorded(() => new Promise(() => {}))
    startOutbox({ sql: database.sql, clock, deliver: dead.deliver, giveUpAfterMs: 1e9, log: { error() {} } })
    await eventually(() => dead.sent.length).toBe(1)
    const { sent, deliver } = recorded()
    const next = outboxOf(deliver)
    clock.advance(4 * minuteMs)
    next.wake()
    await eventually(async () => (await left())[0]?.attempts).toBe(1)
    expect(sent).toEqual([])
    clock.advance(minuteMs)
    await eventually(left).toEqual([])
    expect(sent).toEqual(dead.sent)
  })

  test('one that waited for too long is not sent', async () => {
    await write('late@x', minuteMs)
    clock.advance(2 * minuteMs)
    const { sent, deliver } = recorded()
    outboxOf(deliver)
    await eventually(left).toEqual([])
    expect(sent).toEqual([])
    expect(logged.map((entry) => entry.message)).toEqual(['a message was given up'])
  })

  test('a failed one holds up no other', async () => {
    await write('bad@x')
    await write('good@x')
    const { deliver } = recorded(async (address) => {
      if (address === 'bad@x') throw new Error('busy')
    })
    outboxOf(deliver)
    await eventually(async () => (await left()).map(({ address }) => address)).toEqual(['bad@x'])
  })
})

describe('mail', () => {
  let mail: MailServer
  beforeAll(async () => {
    mail = await mailServer({ user: 'ganglion', password: 'p4ss' })
  })
  afterAll(() => mail.close())
  const config = (email: object) => v.parse(Config, { server_name: 'hs1:8448', email: { host: '127.0.0.1', ...email } })
  const credentials = { user: 'ganglion', password: 'p4ss' }

  test('logs in, and says the same name each time', async () => {
    const deliver = createDeliver(
      config({ port: mail.port, tls: 'none', ...credentials, from: 'A <a@b.example>' }),
      links,
    )
    await deliver.send({ medium: 'email', address: 'to@x.example' }, message, '7.1')
    deliver.close()
    expect(await mail.next()).toMatchObject({ messageId: '<7.1@hs1>', from: 'A <a@b.example>', to: ['to@x.example'] })
  })

  test.each([
    { responseCode: 550, refused: true },
    { responseCode: 451, refused: false },
  ])('a reply $responseCode is final: $refused', async ({ responseCode, refused }) => {
    mail.refuse(responseCode)
    const deliver = createDeliver(config({ port: mail.port, tls: 'none', ...credentials }), links)
    const error = await deliver
      .send({ medium: 'email', address: 'to@x.example' }, message, '8.1')
      .catch((e: unknown) => e)
    deliver.close()
    mail.refuse(undefined)
    expect(error).toBeInstanceOf(Error)
    expect(error instanceof RefusedError).toBe(refused)
  })

  test.each([
    { why: 'a wrong password', email: { tls: 'none', user: 'ganglion', password: 'wrong' } },
    { why: 'no TLS where it has to be', email: { tls: 'starttls', ...credentials } },
    { why: 'nobody there', email: { tls: 'none', port: 1 } },
  ])('$why is tried again', async ({ email }) => {
    const deliver = createDeliver(config({ port: mail.port, ...email }), links)
    const error = await deliver
      .send({ medium: 'email', address: 'to@x.example' }, message, '9.1')
      .catch((e: unknown) => e)
    deliver.close()
    expect(error).toBeInstanceOf(Error)
    expect(error).not.toBeInstanceOf(RefusedError)
  })
})

describe('the texts', () => {
  const variables = {
    app_name: 'A & B',
    server_name: 'hs1',
    link: 'https://hs1/?a=1&b=2',
    code: '123456',
    user_id: '@a:hs1',
    display_name: '<script>alert(1)</script>',
    expires: '2030-01-01',
  }
  const parse = (email: object) => v.parse(Config, { server_name: 'hs1', email })

  test('what users chose is no markup, and no header', () => {
    const { subject, text, html } = loadTemplates(parse({ app_name: 'x' })).mail('renewal', {
      ...variables,
      app_name: 'A\r\nBcc: b@x',
    })
    expect(subject).toBe('[A Bcc: b@x] Renew your account')
    expect(html).toContain('&#60;script&#62;')
    expect(html).not.toContain('<script')
    expect(html).toContain('<a href="https://hs1/?a=1&#38;b=2">')
    expect(text).toContain('Hello <script>alert(1)</script>,')
    expect(text).toContain('https://hs1/?a=1&b=2')
  })

  test("an operator's folder and subjects take their place, one by one", () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-mails-'))
    writeFileSync(path.join(folder, 'add.txt'), 'Bonjour {{ app_name }}, {{unknown}} {{link}}')
    const templates = loadTemplates(parse({ templates_path: folder, subjects: { add: 'Adresse {{server_name}}' } }))
    rmSync(folder, { recursive: true })
    const { subject, text, html } = templates.mail('add', variables)
    expect(subject).toBe('Adresse hs1')
    expect(text).toBe('Bonjour A & B, {{unknown}} https://hs1/?a=1&b=2')
    expect(html).toContain('Somebody, hopefully you, adds this email address')
  })
})
