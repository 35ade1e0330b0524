/** client-server-api/#adding-account-administrative-contact-information: email addresses of accounts, by real mails. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { password } from '../support/client-server.ts'
import { type ThreepidServer, threepidServer } from '../support/threepid-server.ts'

let hs: ThreepidServer
beforeAll(async () => {
  hs = await threepidServer({
    public_baseurl: 'https://matrix.hs1/',
    threepids: { allowed: [{ medium: 'email', pattern: '[^@]+@(?:a\\.)?mail\\.example' }] },
    threepid_validation: { next_link_hosts: ['app.example'] },
  })
})
afterAll(async () => {
  await hs.close()
  expect(hs.logged).toEqual([])
})

const dummy = { type: 'm.login.dummy' }
const emailAuth = (creds: object, session?: string) => ({
  type: 'm.login.email.identity',
  threepid_creds: creds,
  ...(session === undefined ? {} : { session }),
})
const passwordAuth = (user: string) => ({ type: 'm.login.password', identifier: { type: 'm.id.user', user }, password })

describe('post_matrixclientv3registeremailrequesttoken', () => {
  test('a mail goes to the address as it is stored, and names this server', async () => {
    const { status, body } = await hs.requestToken('register', 'Alice.Strauß@Mail.Example')
    expect({ status, body }).toEqual({ status: 200, body: { sid: expect.stringMatching(/^[0-9a-zA-Z.=_-]{1,255}$/) } })
    const mail = await hs.mail.next()
    expect(mail).toMatchObject({
      to: ['alice.strauss@mail.example'],
      subject: '[Example] Confirm your email address',
      from: 'Example <noreply@hs1>',
    })
    expect(mail.link).toMatch(/^https:\/\/matrix\.hs1\/_synapse\/client\/email\/submit_token\?sid=/)
    expect(mail.source).toContain('multipart/alternative')
    expect(mail.source).toContain('Auto-Submitted: auto-generated')
  })

  test('the same attempt sends no second mail, the next one does, with the same link', async () => {
    const ask = (send_attempt: number) => hs.requestToken('register', 'attempts@mail.example', { send_attempt })
    const first = await ask(3)
    const mail = await hs.mail.next()
    expect(await ask(3)).toEqual(first)
    expect(await ask(2)).toEqual(first)
    expect(await ask(4)).toEqual(first)
    const second = await hs.mail.next()
    expect(second.link).toBe(mail.link)
    expect(second.messageId).not.toBe(mail.messageId)
    expect(hs.mail.mails.filter(({ to }) => to[0] === 'attempts@mail.example')).toHaveLength(2)
  })

  test('another secret is another session', async () => {
    const one = await hs.requestToken('register', 'twice@mail.example', { client_secret: 'a' })
    const two = await hs.requestToken('register', 'twice@mail.example', { client_secret: 'b' })
    expect(one.body.sid).not.toBe(two.body.sid)
    expect((await hs.mail.next()).link).not.toBe((await hs.mail.next()).link)
  })

  test.each([
    { why: 'no address', more: { email: 'nobody' }, status: 400, errcode: 'M_INVALID_PARAM' },
    { why: 'two addresses', more: { email: 'a@mail.example,b@mail.example' }, status: 400, errcode: 'M_INVALID_PARAM' },
    { why: 'a header', more: { email: 'a@mail.example\r\nBcc: b@x' }, status: 400, errcode: 'M_INVALID_PARAM' },
    {
      why: 'a domain that is not allowed',
      more: { email: 'a@other.example' },
      status: 403,
      errcode: 'M_THREEPID_DENIED',
    },
    {
      why: 'an allowed domain as the beginning of another',
      more: { email: 'a@mail.example.org' },
      status: 403,
      errcode: 'M_THREEPID_DENIED',
    },
    { why: 'an empty secret', more: { client_secret: '' }, status: 400, errcode: 'M_INVALID_PARAM' },
    { why: 'a secret with other characters', more: { client_secret: 'a/b' }, status: 400, errcode: 'M_INVALID_PARAM' },
    { why: 'no attempt', more: { send_attempt: undefined }, status: 400, errcode: 'M_MISSING_PARAM' },
    {
      why: 'a link that is a script',
      more: { next_link: 'javascript:alert(1)' },
      status: 400,
      errcode: 'M_INVALID_PARAM',
    },
    { why: 'a link elsewhere', more: { next_link: 'https://evil.example/' }, status: 400, errcode: 'M_INVALID_PARAM' },
    {
      why: 'a link elsewhere in disguise',
      more: { next_link: 'https://app.example@evil.example/' },
      status: 400,
      errcode: 'M_INVALID_PARAM',
    },
  ])('$why is refused', async ({ more, status, errcode }) => {
    expect(await hs.requestToken('register', 'refused@mail.example', more)).toMatchObject({ status, body: { errcode } })
  })

  test.each(['register', 'account/3pid', 'account/password'])(
    '%s takes no phone numbers without a gateway',
    async (place) => {
      const body = { client_secret: 's', send_attempt: 1, country: 'GB', phone_number: '07700900001' }
      expect(await hs.ask('POST', `${place}/msisdn/requestToken`, body)).toMatchObject({
        status: 400,
        body: { errcode: 'M_THREEPID_MEDIUM_NOT_SUPPORTED' },
      })
    },
  )
})

describe('the link of a mail', () => {
  test('opening it confirms nothing, since scanners do that; a click does', async () => {
    const { body } = await hs.requestToken('register', 'click@mail.example', {
      client_secret: 'click',
      next_link: 'https://app.example/done?a="b"',
    })
    const creds = { sid: body.sid, client_secret: 'click' }
    const { link } = await hs.mail.next()
    const shown = await hs.browse(link)
    expect(shown.status).toBe(200)
    expect(shown.headers.get('content-security-policy')).toMatch(/default-src 'none'.*frame-ancestors 'none'/)
    expect(shown.headers.get('referrer-policy')).toBe('no-referrer')
    const register = { username: 'clicker', password, auth: emailAuth(creds) }
    expect(await hs.ask('POST', 'register', register)).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNAUTHORIZED' },
    })
    const done = await hs.confirm(link)
    expect(done.status).toBe(200)
    expect(done.html).toContain('<a href="https://app.example/done?a=&#34;b&#34;">')
    // Twice is as good as once.
    expect((await hs.confirm(link)).status).toBe(200)
    expect((await hs.ask('POST', 'register', register)).status).toBe(200)
  })

  test('by JSON it answers as an identity server does', async () => {
    const { body } = await hs.requestToken('register', 'json@mail.example', { client_secret: 'json' })
    const token = new URL((await hs.mail.next()).link).searchParams.get('token')
    const submit = (more: object) =>
      hs.ask('POST', '/_synapse/client/email/submit_token', { sid: body.sid, client_secret: 'json', token, ...more })
    expect(await submit({ token: 'x' })).toMatchObject({ status: 400, body: { errcode: 'M_TOKEN_INCORRECT' } })
    expect(await submit({ client_secret: 'x' })).toMatchObject({ status: 400, body: { errcode: 'M_TOKEN_INCORRECT' } })
    expect(await submit({ sid: 'x' })).toMatchObject({ status: 400, body: { errcode: 'M_SESSION_EXPIRED' } })
    expect(await submit({})).toEqual({ status: 200, body: { success: true } })
  })

  test('ten wrong tokens end it, and an hour does', async () => {
    const ask = async (email: string) => {
      const { body } = await hs.requestToken('register', email)
      const token = String(new URL((await hs.mail.next()).link).searchParams.get('token'))
      return (given = token) => hs.ask('POST', '/_synapse/client/email/submit_token', { sid: body.sid, token: given })
    }
    const guessed = await ask('guessed@mail.example')
    await Promise.all(Array.from({ length: 10 }, () => guessed('wrong')))
    expect((await guessed()).body.errcode).toBe('M_SESSION_EXPIRED')
    const late = await ask('late@mail.example')
    hs.clock.advance(60 * 60_000)
    expect((await late()).body.errcode).toBe('M_SESSION_EXPIRED')
  })

  test('nothing of a token is in the database', async () => {
    await hs.requestToken('register', 'hidden@mail.example', { client_secret: 'never-in-the-table' })
    const token = String(new URL((await hs.mail.next()).link).searchParams.get('token'))
    const rows = await hs.main.database.sql<{ row: string }[]>`
      select to_jsonb(s)::text as row from threepid_sessions s union all select to_jsonb(o)::text from outbox o`
    expect(rows.length).toBeGreaterThan(0)
    for (const { row } of rows) {
      expect(row).not.toContain(token)
      expect(row).not.toContain('never-in-the-table')
    }
  })
})

describe('m.login.email.identity at registration', () => {
  test('is offered beside m.login.dummy, and the address comes with the account', async () => {
    const first = await hs.ask('POST', 'register', { username: 'reg', password })
    expect(first).toMatchObject({
      status: 401,
      body: { flows: [{ stages: ['m.login.dummy'] }, { stages: ['m.login.email.identity'] }] },
    })
    const creds = await hs.prove('register', 'Reg@mail.example')
    const { status, body } = await hs.ask('POST', 'register', {
      username: 'reg',
      password,
      auth: emailAuth(creds, first.body.session),
    })
    expect(status).toBe(200)
    expect((await hs.ask('GET', 'account/3pid', undefined, body.access_token)).body).toEqual({
      threepids: [
        {
          medium: 'email',
          address: 'reg@mail.example',
          validated_at: hs.clock.now(),
          added_at: hs.clock.now(),
        },
      ],
    })
    // What was shown is used up.
    expect(await hs.ask('POST', 'register', { username: 'again', password, auth: emailAuth(creds) })).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNAUTHORIZED' },
    })
    expect(await hs.requestToken('register', 'REG@mail.example', { client_secret: 'x' })).toMatchObject({
      status: 400,
      body: { errcode: 'M_THREEPID_IN_USE' },
    })
  })

  test('what the stage has shown outlives a request that fails', async () => {
    const creds = await hs.prove('register', 'kept@mail.example')
    const { body } = await hs.ask('POST', 'register', { username: 'kept', auth: emailAuth(creds) })
    expect(body.errcode).toBe('M_MISSING_PARAM')
    const begun = await hs.ask('POST', 'register', { username: 'kept2', password })
    const again = await hs.prove('register', 'kept@mail.example')
    const { session } = begun.body
    const missing = await hs.ask('POST', 'register', { username: 'kept2', auth: emailAuth(again, session) })
    expect(missing.body.errcode).toBe('M_MISSING_PARAM')
    const { status } = await hs.ask('POST', 'register', { username: 'kept2', password, auth: { session } })
    expect(status).toBe(200)
  })

  test('of two accounts at once with one address, the database gives it to one', async () => {
    const [a, b] = [await hs.prove('register', 'race@mail.example'), await hs.prove('register', 'race@mail.example')]
    const answers = await Promise.all(
      [a, b].map((creds, i) => hs.ask('POST', 'register', { username: `racer${i}`, password, auth: emailAuth(creds) })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400])
    expect(answers.find(({ status }) => status === 400)?.body.errcode).toBe('M_THREEPID_IN_USE')
  })

  test('what was shown for something else opens nothing', async () => {
    const creds = await hs.prove('account/3pid', 'purpose@mail.example')
    const register = { username: 'purpose', password, auth: emailAuth(creds) }
    expect(await hs.ask('POST', 'register', register)).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNAUTHORIZED' },
    })
  })
})

describe('post_matrixclientv3account3pidadd', () => {
  test('adds after the password; login takes the address from then on; delete takes it away', async () => {
    const alice = await hs.register('adder')
    const creds = await hs.prove('account/3pid', 'adder@mail.example')
    const first = await alice.ask('POST', 'account/3pid/add', creds)
    expect(first).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.password'] }] } })
    const add = { ...creds, auth: { ...passwordAuth('adder'), session: first.body.session } }
    expect(await alice.ask('POST', 'account/3pid/add', add)).toEqual({ status: 200, body: {} })
    const threepid = { medium: 'email', address: 'adder@mail.example' }
    expect((await alice.must('GET', 'account/3pid')).threepids).toMatchObject([threepid])

    const login = (identifier: object, pass = password) =>
      hs.ask('POST', 'login', { type: 'm.login.password', identifier, password: pass })
    const by = { type: 'm.id.thirdparty', medium: 'email', address: 'Adder@Mail.example' }
    expect(await login(by)).toMatchObject({ status: 200, body: { user_id: alice.user_id } })
    expect(await login({ medium: 'email', address: 'adder@mail.example' })).toMatchObject({ status: 200 })
    expect(await hs.ask('POST', 'login', { type: 'm.login.password', password, ...threepid })).toMatchObject({
      status: 200,
    })
    expect(await login(by, 'wrong')).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    expect(await login({ ...by, address: 'no@mail.example' })).toEqual(await login(by, 'wrong'))
    expect(await login({ ...by, medium: 'pigeon' })).toMatchObject({ status: 403 })
    expect(await login({ type: 'm.id.thirdparty', medium: 'email' })).toMatchObject({
      body: { errcode: 'M_MISSING_PARAM' },
    })

    // As the password stage names its user.
    const stage = { type: 'm.login.password', identifier: by, password }
    expect((await alice.ask('POST', 'delete_devices', { devices: [], auth: stage })).status).toBe(200)
    const other = { ...stage, identifier: { ...by, address: 'reg@mail.example' } }
    expect(await alice.ask('POST', 'delete_devices', { devices: [], auth: other })).toMatchObject({ status: 403 })

    const removed = await alice.ask('POST', 'account/3pid/delete', { ...threepid, address: 'ADDER@mail.example' })
    expect(removed).toEqual({ status: 200, body: { id_server_unbind_result: 'no-support' } })
    expect((await alice.must('GET', 'account/3pid')).threepids).toEqual([])
    expect(await login(by)).toMatchObject({ status: 403 })
  })

  test.each(['account/3pid', 'account/3pid/add'])('%s takes nothing that was not confirmed', async (path) => {
    const alice = await hs.register(`unconfirmed${path.length}`)
    const client_secret = `unconfirmed${path.length}`
    const { body } = await hs.requestToken('account/3pid', 'unconfirmed@mail.example', { client_secret })
    await hs.mail.next()
    const creds = { sid: body.sid, client_secret }
    const sent = path === 'account/3pid' ? { three_pid_creds: creds } : creds
    expect(await alice.ask('POST', path, { ...sent, auth: passwordAuth(alice.user_id) })).toMatchObject({
      status: 403,
      body: { errcode: 'M_THREEPID_AUTH_FAILED' },
    })
  })

  test('an address of somebody else is in use, also where both had shown it', async () => {
    const [alice, bob] = [await hs.register('had1'), await hs.register('had2')]
    const a = await hs.prove('account/3pid', 'had@mail.example')
    const b = await hs.prove('account/3pid', 'had@mail.example')
    await alice.must('POST', 'account/3pid', { three_pid_creds: a, auth: passwordAuth('had1') })
    expect(await bob.ask('POST', 'account/3pid/add', { ...b, auth: passwordAuth('had2') })).toMatchObject({
      status: 400,
      body: { errcode: 'M_THREEPID_IN_USE' },
    })
    expect(await hs.requestToken('account/3pid', 'had@mail.example')).toMatchObject({
      status: 400,
      body: { errcode: 'M_THREEPID_IN_USE' },
    })
  })

  test('no identity server is trusted', async () => {
    const alice = await hs.register('binder')
    const bind = { sid: 's', client_secret: 'c', id_server: 'id.example', id_access_token: 't' }
    expect(await alice.ask('POST', 'account/3pid/bind', bind)).toMatchObject({
      status: 400,
      body: { errcode: 'M_SERVER_NOT_TRUSTED' },
    })
    expect(await alice.ask('POST', 'account/3pid/unbind', { medium: 'email', address: 'x@mail.example' })).toEqual({
      status: 200,
      body: { id_server_unbind_result: 'no-support' },
    })
    expect((await alice.must('GET', 'capabilities')).capabilities['m.3pid_changes']).toEqual({ enabled: true })
  })

  test('deactivation sets the addresses free', async () => {
    const creds = await hs.prove('register', 'leaving@mail.example')
    const { body } = await hs.ask('POST', 'register', { username: 'leaving', password, auth: emailAuth(creds) })
    const auth = passwordAuth('leaving')
    expect((await hs.ask('POST', 'account/deactivate', { auth }, body.access_token)).status).toBe(200)
    expect(await hs.requestToken('account/password', 'leaving@mail.example')).toMatchObject({
      body: { errcode: 'M_THREEPID_NOT_FOUND' },
    })
    const again = await hs.prove('register', 'leaving@mail.example')
    expect((await hs.ask('POST', 'register', { username: 'next', password, auth: emailAuth(again) })).status).toBe(200)
  })
})

describe('post_matrixclientv3accountpassword without a token', () => {
  async function owner(name: string) {
    const creds = await hs.prove('register', `${name}@mail.example`)
    const { body } = await hs.ask('POST', 'register', { username: name, password, auth: emailAuth(creds) })
    return { user_id: String(body.user_id), token: String(body.access_token) }
  }
  const login = (user: string, pass: string) =>
    hs.ask('POST', 'login', { type: 'm.login.password', identifier: { type: 'm.id.user', user }, password: pass })

  test('sets a new password once the mail was confirmed, and ends the sessions', async () => {
    const { token } = await owner('forgetful')
    const flows = [{ stages: ['m.login.email.identity'] }]
    expect(await hs.ask('POST', 'account/password', { new_password: 'new-password' })).toMatchObject({
      status: 401,
      body: { flows },
    })
    const { body } = await hs.requestToken('account/password', 'forgetful@mail.example')
    const creds = { sid: body.sid, client_secret: 'secret' }
    const set = { new_password: 'new-password', auth: emailAuth(creds) }
    // Clients ask until it works.
    expect(await hs.ask('POST', 'account/password', set)).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNAUTHORIZED', flows },
    })
    const mail = await hs.mail.next()
    expect(mail.subject).toBe('[Example] Reset your password')
    await hs.confirm(mail.link)
    const lacking = await hs.ask('POST', 'account/password', { auth: emailAuth(creds) })
    expect(lacking.body.errcode).toBe('M_MISSING_PARAM')
    const wrong = { ...set, auth: emailAuth({ ...creds, client_secret: 'another' }) }
    expect((await hs.ask('POST', 'account/password', wrong)).status).toBe(401)
    expect(await hs.ask('POST', 'account/password', set)).toEqual({ status: 200, body: {} })
    expect((await login('forgetful', 'new-password')).status).toBe(200)
    expect((await login('forgetful', password)).status).toBe(403)
    expect((await hs.ask('GET', 'account/whoami', undefined, token)).status).toBe(401)
    // The link is good for one password.
    expect((await hs.ask('POST', 'account/password', { ...set, new_password: 'third-password' })).status).toBe(401)
  })

  test('what was shown for adding the address sets no password', async () => {
    await owner('victim')
    const { body } = await hs.requestToken('account/3pid', 'stranger@mail.example', { client_secret: 'v' })
    await hs.confirm((await hs.mail.next()).link)
    const auth = emailAuth({ sid: body.sid, client_secret: 'v' })
    expect((await hs.ask('POST', 'account/password', { new_password: 'stolen-password', auth })).status).toBe(401)
  })

  test('an address of nobody is not found', async () => {
    expect(await hs.requestToken('account/password', 'nobody@mail.example')).toMatchObject({
      status: 400,
      body: { errcode: 'M_THREEPID_NOT_FOUND' },
    })
  })

  test('a guest has no password, and m.login.dummy is no way to one', async () => {
    const auth = { new_password: 'new-password', auth: dummy }
    expect(await hs.ask('POST', 'account/password', auth)).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNRECOGNIZED' },
    })
  })
})
