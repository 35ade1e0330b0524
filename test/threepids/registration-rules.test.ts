/** What the configuration asks of who registers, and what it hides from who asks. */
import { createServer } from 'node:http'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { registrationDemand } from '../../functions/client/accounts/register.ts'
import { configFrom } from '../../shared/config/load.ts'
import { password } from '../support/client-server.ts'
import { type ThreepidServer, threepidServer } from '../support/threepid-server.ts'

describe('client-server-api/#post_matrixclientv3register, the flows', () => {
  const email = 'm.login.email.identity'
  const msisdn = 'm.login.msisdn'
  const policies = {
    documents: [{ id: 'p', version: '1', translations: [{ language: 'en', name: 'P', url: 'https://hs1/p' }] }],
  }
  const mail = { email: { host: 'mail' } }
  const sms = { sms: { url: 'http://sms' } }
  test.each([
    { why: 'nothing is sent', settings: {}, flows: [['m.login.dummy']] },
    { why: 'mail is sent', settings: mail, flows: [['m.login.dummy'], [email]] },
    {
      why: 'an address is needed',
      settings: { ...mail, registration: { require_threepids: ['email'] } },
      flows: [[email]],
    },
    {
      why: 'an address is needed and a number is welcome',
      settings: { ...mail, ...sms, registration: { require_threepids: ['email'] } },
      flows: [[email], [email, msisdn]],
    },
    {
      why: 'both are needed',
      settings: { ...mail, ...sms, registration: { require_threepids: ['email', 'msisdn'] } },
      flows: [[email, msisdn]],
    },
    {
      why: 'numbers are not taken at registration',
      settings: { ...mail, ...sms, registration: { msisdn: false } },
      flows: [['m.login.dummy'], [email]],
    },
    {
      why: 'there are policies',
      settings: { ...mail, policies },
      flows: [
        ['m.login.terms', 'm.login.dummy'],
        ['m.login.terms', email],
      ],
    },
    {
      why: 'policies are not for registration',
      settings: { policies: { ...policies, at_registration: false } },
      flows: [['m.login.dummy']],
    },
  ])('$why', ({ settings, flows }) => {
    expect(registrationDemand(configFrom({ server_name: 'hs1', ...settings })).flows).toEqual(flows)
  })

  test('what is needed and can not be shown lets nobody register', () => {
    const config = configFrom({ server_name: 'hs1', registration: { require_threepids: ['email'] } })
    expect(() => registrationDemand(config)).toThrow(expect.objectContaining({ errcode: 'M_FORBIDDEN' }))
  })
})

describe('patterns of addresses in the configuration', () => {
  test.each(['(', '[a', '(?=x)y', '(?<!x)y', '(a)\\1'])('%s is none', (pattern) => {
    expect(() => configFrom({ server_name: 'hs1', threepids: { allowed: [{ medium: 'email', pattern }] } })).toThrow(
      'threepids.allowed[0].pattern: expected a regular expression',
    )
  })
})

describe('threepids.hide_existing', () => {
  let hs: ThreepidServer
  beforeAll(async () => {
    hs = await threepidServer({ threepids: { hide_existing: true } })
    const creds = await hs.prove('register', 'known@mail.example')
    const auth = { type: 'm.login.email.identity', threepid_creds: creds }
    await hs.ask('POST', 'register', { username: 'known', password, auth })
  })
  afterAll(async () => {
    await hs.close()
    expect(hs.logged).toEqual([])
  })
  const shape = { status: 200, body: { sid: expect.stringMatching(/^[\w-]{24}$/) } }

  test('who registers with a known address is answered as anybody is, and its user is told by mail', async () => {
    const first = await hs.requestToken('register', 'known@mail.example')
    expect(first).toEqual(shape)
    expect(await hs.requestToken('register', 'known@mail.example')).toEqual(first)
    const mail = await hs.mail.next()
    expect(mail).toMatchObject({
      to: ['known@mail.example'],
      subject: '[Example] You have an account already',
      link: '',
    })
    const token = await hs.ask('POST', '/_synapse/client/email/submit_token', { sid: first.body.sid, token: 'x' })
    expect(token.body.errcode).toBe('M_TOKEN_INCORRECT')
  })

  test.each([
    { purpose: 'account/password', email: 'stranger@mail.example' },
    { purpose: 'account/3pid', email: 'known@mail.example' },
  ] as const)('$purpose tells nothing, and sends nothing', async ({ purpose, email }) => {
    const before = hs.mail.mails.length
    const first = await hs.requestToken(purpose, email)
    expect(first).toEqual(shape)
    expect(await hs.requestToken(purpose, email, { send_attempt: 2 })).toEqual(first)
    expect(await hs.requestToken('register', `after-${purpose.length}@mail.example`)).toEqual(shape)
    expect((await hs.mail.next()).to).toEqual([`after-${purpose.length}@mail.example`])
    expect(hs.mail.mails.length).toBe(before + 1)
  })
})

test('rate_limits.threepid_validation holds for the asker and for the address', async () => {
  const hs = await threepidServer({ rate_limits: { threepid_validation: { per_second: 0, burst: 3 } } })
  const ask = (email: string, client_secret: string) => hs.requestToken('register', email, { client_secret })
  const statuses: number[] = []
  for (const [i, email] of ['a@x.example', 'a@x.example', 'b@x.example', 'c@x.example'].entries()) {
    statuses.push((await ask(email, `s${i}`)).status)
  }
  expect(statuses).toEqual([200, 200, 200, 429])
  await hs.close()
})

describe('phone numbers, by a gateway for short messages', () => {
  let hs: ThreepidServer
  const texts: { to: string; text: string; authorization: string | undefined }[] = []
  const gateway = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      texts.push({ ...JSON.parse(body), authorization: request.headers.authorization })
      response.end()
    })
  })
  beforeAll(async () => {
    await new Promise<void>((resolve) => gateway.listen(0, '127.0.0.1', resolve))
    const address = gateway.address()
    const port = typeof address === 'object' && address ? address.port : 0
    hs = await threepidServer({ sms: { url: `http://127.0.0.1:${port}/send`, token: 'gateway-token' } })
  })
  afterAll(async () => {
    await hs.close()
    gateway.close()
    expect(hs.logged).toEqual([])
  })
  const number = { country: 'GB', phone_number: '07700 900001', client_secret: 'phone', send_attempt: 1 }

  test('a code is sent, brought to submit_url, and opens m.login.msisdn; login takes the number as it is typed', async () => {
    const asked = await hs.ask('POST', 'register/msisdn/requestToken', number)
    expect(asked).toMatchObject({
      status: 200,
      body: { msisdn: '447700900001', submit_url: 'https://hs1/_synapse/client/msisdn/submit_token' },
    })
    await expect.poll(() => texts.length, { timeout: 15_000 }).toBe(1)
    expect(texts[0]).toMatchObject({ to: '+447700900001', authorization: 'Bearer gateway-token' })
    const token = /^\d{6}/.exec(texts[0]?.text ?? '')?.[0]
    const creds = { sid: asked.body.sid, client_secret: 'phone' }
    const { pathname } = new URL(asked.body.submit_url)
    const wrong = { ...creds, token: token === '000000' ? '000001' : '000000' }
    expect(await hs.ask('POST', pathname, wrong)).toMatchObject({ body: { errcode: 'M_TOKEN_INCORRECT' } })
    // The session's name is no secret, so the code needs the client's.
    expect(await hs.ask('POST', pathname, { sid: creds.sid, token })).toMatchObject({
      body: { errcode: 'M_TOKEN_INCORRECT' },
    })
    expect(await hs.ask('POST', pathname, { ...creds, token })).toEqual({ status: 200, body: { success: true } })
    const email = { type: 'm.login.email.identity', threepid_creds: creds }
    expect((await hs.ask('POST', 'register', { username: 'phone', password, auth: email })).status).toBe(401)
    const auth = { type: 'm.login.msisdn', threepid_creds: creds }
    const { status, body } = await hs.ask('POST', 'register', { username: 'phone', password, auth })
    expect(status).toBe(200)
    const login = (identifier: object) => hs.ask('POST', 'login', { type: 'm.login.password', identifier, password })
    for (const identifier of [
      { type: 'm.id.phone', country: 'GB', phone: '(07700) 900001' },
      { type: 'm.id.phone', country: 'FR', number: '+44 7700 900001' },
      { type: 'm.id.thirdparty', medium: 'msisdn', address: '447700900001' },
    ]) {
      expect(await login(identifier)).toMatchObject({ status: 200, body: { user_id: body.user_id } })
    }
    expect(await login({ type: 'm.id.phone', country: 'FR', phone: '07700 900001' })).toMatchObject({ status: 403 })

    // The same ways lead to a new password, and to a further number.
    for (const [place, phone_number] of [
      ['account/password', number.phone_number],
      ['account/3pid', '07700 900002'],
    ]) {
      const before = texts.length
      const further = { ...number, phone_number, client_secret: 'further' }
      expect(await hs.ask('POST', `${place}/msisdn/requestToken`, further)).toMatchObject({ status: 200 })
      await expect.poll(() => texts.length, { timeout: 15_000 }).toBe(before + 1)
    }
  })

  test('a number that is none is refused', async () => {
    const refused = { ...number, country: 'XX' }
    expect(await hs.ask('POST', 'register/msisdn/requestToken', refused)).toMatchObject({
      status: 400,
      body: { errcode: 'M_INVALID_PARAM' },
    })
  })
})
