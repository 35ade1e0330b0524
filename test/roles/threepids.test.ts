/** Mails, links and consent with every role a process of its own: any handler takes any step, and the mains send each mail once. */
import { createHmac, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type MailServer, mailServer } from '../support/mail-server.ts'
import { fieldsOf } from '../support/pages.ts'
import { redisInstalled } from '../support/redis.ts'
import { type TestRoles, testRoles } from '../support/roles.ts'

const password = 'a long password'

describe.runIf(redisInstalled)('third-party ids, in roles', () => {
  let roles: TestRoles
  let mail: MailServer
  beforeAll(async () => {
    mail = await mailServer()
    roles = await testRoles({
      mains: 2,
      handlers: { client: 2, sync: 1 },
      config: {
        email: { host: '127.0.0.1', port: mail.port, tls: 'none' },
        account_validity: { enabled: true, period: '30d' },
        policies: {
          block_without_consent: true,
          at_registration: false,
          documents: [
            { id: 'terms', version: '1', translations: [{ language: 'en', name: 'Terms', url: 'https://x.example/' }] },
          ],
        },
      },
    })
  })
  afterAll(async () => {
    await roles?.close()
    await mail?.close()
  })

  let turn = 0
  /** Each request to another handler. */
  async function ask(method: string, path: string, body?: object, token?: string) {
    const handlers = roles.urls('client')
    const base = handlers[turn++ % handlers.length] ?? ''
    const response = await fetch(`${base}${path.startsWith('/') ? path : `/_matrix/client/v3/${path}`}`, {
      method,
      headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: body instanceof URLSearchParams ? body : JSON.stringify(body) }),
    })
    const text = await response.text()
    return { status: response.status, text, body: text.startsWith('{') ? JSON.parse(text) : undefined }
  }
  async function click(link: string) {
    const { pathname, search } = new URL(link)
    const { text } = await ask('GET', `${pathname}${search}`)
    const done = await ask('POST', pathname, new URLSearchParams(fieldsOf(text)))
    expect(done.status, done.text).toBe(200)
  }
  async function prove(purpose: string, email: string) {
    const client_secret = randomBytes(8).toString('hex')
    const { body } = await ask('POST', `${purpose}/email/requestToken`, { client_secret, email, send_attempt: 1 })
    await click((await mail.next()).link)
    return { type: 'm.login.email.identity', threepid_creds: { sid: body.sid, client_secret } }
  }

  test('registers, resets the password, agrees, is renewed; each step on another handler', async () => {
    const registered = await ask('POST', 'register', {
      username: 'alice',
      password,
      auth: await prove('register', 'alice@mail.example'),
    })
    expect(registered.status).toBe(200)
    const auth = await prove('account/password', 'alice@mail.example')
    expect(await ask('POST', 'account/password', { new_password: 'another password', auth })).toMatchObject({
      status: 200,
    })
    const identifier = { type: 'm.id.thirdparty', medium: 'email', address: 'alice@mail.example' }
    const login = await ask('POST', 'login', { type: 'm.login.password', identifier, password: 'another password' })
    expect(login.status).toBe(200)
    const token = String(login.body.access_token)

    const refused = await ask('POST', 'createRoom', {}, token)
    expect(refused.body.errcode).toBe('M_CONSENT_NOT_GIVEN')
    await click(refused.body.consent_uri)
    // Both have remembered the session as one without consent.
    for (let i = 0; i < 2; i++) expect((await ask('POST', 'createRoom', {}, token)).status).toBe(200)

    const admin = await administrator()
    const validity = { user_id: '@alice:test.local', expiration_ts: Date.now() - 1 }
    expect((await ask('POST', '/_synapse/admin/v1/account_validity/validity', validity, admin)).status).toBe(200)
    for (let i = 0; i < 2; i++) {
      expect((await ask('GET', 'account/whoami', undefined, token)).body.errcode).toBe('ORG_MATRIX_EXPIRED_ACCOUNT')
    }
    const sync = roles.urls('sync')[0] ?? ''
    const headers = { Authorization: `Bearer ${token}` }
    expect((await fetch(`${sync}/_matrix/client/v3/sync`, { headers })).status).toBe(403)
    expect((await ask('POST', '/_matrix/client/unstable/account_validity/send_mail', undefined, token)).status).toBe(
      200,
    )
    await click((await mail.next()).link)
    for (let i = 0; i < 2; i++) expect((await ask('GET', 'account/whoami', undefined, token)).status).toBe(200)
    expect((await fetch(`${sync}/_matrix/client/v3/sync`, { headers })).status).toBe(200)
  })

  test('of many mails at once, each is sent once', async () => {
    const before = mail.mails.length
    const addresses = Array.from({ length: 40 }, (_, i) => `many${i}@mail.example`)
    const answers = await Promise.all(
      addresses.map((email) =>
        ask('POST', 'register/email/requestToken', { client_secret: 'many', email, send_attempt: 1 }),
      ),
    )
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
    await mail.tried(before + 40)
    const sent = mail.mails.slice(before).map(({ to }) => to[0])
    expect([...sent].sort()).toEqual([...addresses].sort())
  })

  async function administrator(): Promise<string> {
    const path = '/_synapse/admin/v1/register'
    const { nonce } = (await ask('GET', path)).body
    const parts = [nonce, 'root', password, 'admin'].join('\0')
    const mac = createHmac('sha1', 'test-secret').update(parts).digest('hex')
    const { body } = await ask('POST', path, { nonce, username: 'root', password, admin: true, mac })
    return String(body.access_token)
  }
})
