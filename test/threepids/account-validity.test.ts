/** Accounts that expire unless they are renewed. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { password, type TestClient } from '../support/client-server.ts'
import { type ThreepidServer, threepidServer } from '../support/threepid-server.ts'

const dayMs = 24 * 60 * 60_000
const settings = { account_validity: { enabled: true, period: '30d', renew_at: '7d' } }
let hs: ThreepidServer
let admin: TestClient
beforeAll(async () => {
  hs = await threepidServer(settings)
  admin = await hs.register('root', { admin: true })
})
afterAll(async () => {
  await hs.close()
  expect(hs.logged).toEqual([])
})

async function withAddress(name: string, server = hs) {
  const creds = await server.prove('register', `${name}@mail.example`)
  const auth = { type: 'm.login.email.identity', threepid_creds: creds }
  const { body } = await server.ask('POST', 'register', { username: name, password, auth })
  const token = String(body.access_token)
  return {
    user_id: String(body.user_id),
    ask: (method: string, path: string, sent?: unknown) => server.ask(method, path, sent, token),
  }
}

/** For the machine, not for the clock. */
const patience = { timeout: 15_000 }
const sendMail = '/_matrix/client/unstable/account_validity/send_mail'

test('an account is good for its period, and then for nothing but to be renewed', async () => {
  const alice = await withAddress('alice')
  hs.clock.advance(30 * dayMs - 1)
  expect((await alice.ask('GET', 'sync')).status).toBe(200)
  hs.clock.advance(1)
  const expired = { status: 403, body: { errcode: 'ORG_MATRIX_EXPIRED_ACCOUNT' } }
  for (const path of ['sync', 'account/whoami', 'joined_rooms']) {
    expect(await alice.ask('GET', path), path).toMatchObject(expired)
  }
  // Administrators could let nobody in again once they were out.
  expect((await admin.ask('GET', 'account/whoami')).status).toBe(200)
  expect(await alice.ask('POST', sendMail)).toEqual({ status: 200, body: {} })
  const mail = await hs.mail.next()
  expect(mail).toMatchObject({ to: ['alice@mail.example'], subject: '[Example] Renew your account' })
  // Looking at the link renews nothing.
  expect((await hs.browse(mail.link)).status).toBe(200)
  expect(await alice.ask('GET', 'sync')).toMatchObject(expired)
  const renewed = await hs.confirm(mail.link)
  expect(renewed.html).toContain(new Date(hs.clock.now() + 30 * dayMs).toISOString().slice(0, 10))
  expect((await alice.ask('GET', 'sync')).status).toBe(200)
  expect((await hs.confirm(mail.link)).status).toBe(403)
  hs.clock.advance(30 * dayMs)
  expect(await alice.ask('GET', 'sync')).toMatchObject(expired)
  expect(await alice.ask('POST', 'logout')).toMatchObject({ status: 200 })
})

test('a user without an address is told so', async () => {
  const bob = await hs.register('bob')
  expect(await bob.ask('POST', sendMail)).toMatchObject({ body: { errcode: 'M_THREEPID_NOT_FOUND' } })
  expect(await admin.ask('POST', sendMail)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
})

describe('/_synapse/admin/v1/account_validity/validity', () => {
  const path = '/_synapse/admin/v1/account_validity/validity'
  test('sets when an account ends, at once', async () => {
    const carol = await hs.register('carol')
    expect((await carol.ask('GET', 'account/whoami')).status).toBe(200)
    const { user_id } = carol
    expect(await admin.must('POST', path, { user_id, expiration_ts: hs.clock.now() - 1 })).toEqual({
      expiration_ts: hs.clock.now() - 1,
    })
    expect((await carol.ask('GET', 'account/whoami')).status).toBe(403)
    expect(await admin.must('POST', path, { user_id })).toEqual({ expiration_ts: hs.clock.now() + 30 * dayMs })
    expect((await carol.ask('GET', 'account/whoami')).status).toBe(200)
    expect(await admin.ask('POST', path, { user_id: '@nobody:hs1' })).toMatchObject({ status: 404 })
    expect(await carol.ask('POST', path, { user_id })).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
  })
})

describe('what main does by itself', () => {
  const halfAnHourMs = 30 * 60_000
  let hs: ThreepidServer
  beforeAll(async () => {
    hs = await threepidServer(settings)
  })
  afterAll(async () => {
    await hs.close()
    expect(hs.logged).toEqual([])
  })

  test('whose account expires soon is told once for each period', async () => {
    const root = await hs.register('root', { admin: true })
    const [dan, eve] = [await withAddress('dan', hs), await withAddress('eve', hs)]
    const path = '/_synapse/admin/v1/account_validity/validity'
    await root.must('POST', path, { user_id: eve.user_id, enable_renewal_emails: false })
    const before = hs.mail.mails.length
    hs.clock.advance(23 * dayMs - 1)
    hs.clock.advance(halfAnHourMs)
    expect(await hs.mail.next()).toMatchObject({ to: ['dan@mail.example'] })
    for (let i = 0; i < 5; i++) hs.clock.advance(halfAnHourMs)
    await root.must('POST', path, { user_id: dan.user_id, expiration_ts: hs.clock.now() + 6 * dayMs })
    await expect
      .poll(() => {
        hs.clock.advance(halfAnHourMs)
        return hs.mail.mails.length
      }, patience)
      .toBe(before + 2)
    expect(hs.mail.mails.slice(before).map(({ to }) => to)).toEqual([['dan@mail.example'], ['dan@mail.example']])
  })

  test('accounts of before accounts expired get a time, spread, and nobody loses one', async () => {
    const { sql } = hs.main.database
    await sql`insert into users (user_id, created_ts) select '@old' || n || ':hs1', 0 from generate_series(1, 250) n`
    const earliest = hs.clock.now()
    const validity = () => sql<{ expires_ts: number }[]>`
      select expires_ts from account_validity where user_id like '@old%' order by expires_ts`
    await expect
      .poll(async () => {
        hs.clock.advance(halfAnHourMs)
        return (await validity()).length
      }, patience)
      .toBe(250)
    const rows = await validity()
    expect(rows[0]?.expires_ts).toBeGreaterThanOrEqual(earliest + 27 * dayMs)
    expect(rows[249]?.expires_ts).toBeLessThanOrEqual(hs.clock.now() + 30 * dayMs)
    expect(new Set(rows.map(({ expires_ts }) => expires_ts)).size).toBeGreaterThan(100)
    hs.clock.advance(halfAnHourMs)
    expect(await validity()).toEqual(rows)
  })
})
