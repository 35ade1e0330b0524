/** client-server-api/#token-authenticated-registration, and how administrators manage the tokens. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fakeClock } from '../../shared/clock.ts'
import { type ClientServer, clientServer, type TestClient } from '../support/client-server.ts'

const clock = fakeClock()
const path = '/_synapse/admin/v1/registration_tokens'
const validity = '/_matrix/client/v1/register/m.login.registration_token/validity'
let server: ClientServer
let admin: TestClient
let count = 0

beforeAll(async () => {
  server = await clientServer({ clock, config: { registration: { enabled: true, requires_token: true } } })
  admin = await server.register('admin', { admin: true })
})
afterAll(() => server.close())

const make = (body: object = {}) => admin.must('POST', `${path}/new`, body)
const look = (token: string) => admin.must('GET', `${path}/${token}`)
const isValid = async (token: string) => (await server.ask('GET', `${validity}?token=${token}`)).body.valid
const begin = async () => (await server.ask('POST', 'register', {})).body.session as string
const show = (session: string | undefined, token: string, username = `user${++count}`) =>
  server.ask('POST', 'register', {
    username,
    password: 'superuser',
    auth: { type: 'm.login.registration_token', session, token },
  })

describe('client-server-api/#token-authenticated-registration', () => {
  test('the stage is offered, and nothing else opens an account', async () => {
    const first = await server.ask('POST', 'register', { username: 'x', password: 'superuser' })
    expect(first).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.registration_token'] }] } })
    const auth = { type: 'm.login.dummy', session: first.body.session }
    expect(await server.ask('POST', 'register', { username: 'x', password: 'superuser', auth })).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNRECOGNIZED' },
    })
  })

  test('a token opens one account a use; then it is not valid', async () => {
    const { token } = await make({ uses_allowed: 1 })
    expect(await isValid(token)).toBe(true)
    expect(await show(await begin(), token)).toMatchObject({ status: 200 })
    expect(await look(token)).toMatchObject({ uses_allowed: 1, pending: 0, completed: 1 })
    expect(await isValid(token)).toBe(false)
    expect(await show(await begin(), token)).toMatchObject({
      status: 401,
      body: { errcode: 'M_UNAUTHORIZED', completed: [] },
    })
  })

  test('in one step, without a session', async () => {
    const { token } = await make({ uses_allowed: 1 })
    expect(await show(undefined, token)).toMatchObject({ status: 200 })
    expect(await show(undefined, token)).toMatchObject({ status: 401 })
  })

  test('in parallel it is never used more often than allowed', async () => {
    const { token } = await make({ uses_allowed: 3 })
    const sessions = await Promise.all(Array.from({ length: 12 }, begin))
    const answers = await Promise.all(sessions.map((session) => show(session, token)))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(3)
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(9)
    expect(await look(token)).toMatchObject({ pending: 0, completed: 3 })
  })

  test('one session makes one account, also with two requests at once', async () => {
    const { token } = await make({ uses_allowed: 5 })
    const session = await begin()
    const answers = await Promise.all([show(session, token), show(session, token), show(session, token)])
    const made = answers.filter(({ status }) => status === 200).length
    expect(await look(token)).toMatchObject({ completed: made, pending: 0 })
    // What is left of the session opens nothing without the token.
    const body = { username: `user${++count}`, password: 'superuser', auth: { session } }
    expect(await server.ask('POST', 'register', body)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
  })

  test('a registration under way holds its use, and lets it go when its session is over', async () => {
    const { token } = await make({ uses_allowed: 1 })
    const session = await begin()
    // Passed, but without a password there is no account.
    const shown = await server.ask('POST', 'register', {
      username: `user${++count}`,
      auth: { type: 'm.login.registration_token', session, token },
    })
    expect(shown.body).toMatchObject({ errcode: 'M_MISSING_PARAM' })
    expect(await look(token)).toMatchObject({ pending: 1, completed: 0 })
    expect(await isValid(token)).toBe(false)
    expect((await show(await begin(), token)).status).toBe(401)
    clock.advance(31 * 60_000)
    expect(await look(token)).toMatchObject({ pending: 0 })
    expect((await show(await begin(), token)).status).toBe(200)
    const late = { username: `user${++count}`, password: 'superuser', auth: { session } }
    expect((await server.ask('POST', 'register', late)).status).not.toBe(200)
    expect(await look(token)).toMatchObject({ completed: 1 })
  })

  test('a name that is taken costs no use', async () => {
    const { token } = await make({ uses_allowed: 1 })
    const session = await begin()
    expect(await show(session, token, 'admin')).toMatchObject({ status: 400, body: { errcode: 'M_USER_IN_USE' } })
    expect((await show(session, token)).status).toBe(200)
  })

  test('one that is past its time, and one that nobody made, are not valid', async () => {
    const { token } = await make({ expiry_time: clock.now() + 1000 })
    expect(await isValid(token)).toBe(true)
    clock.advance(1000)
    for (const bad of [token, 'nobody', 'x'.repeat(300), '%00']) {
      expect(await isValid(bad)).toBe(false)
      expect((await show(await begin(), bad)).status).toBe(401)
    }
    expect(await server.ask('GET', validity)).toMatchObject({ body: { errcode: 'M_MISSING_PARAM' } })
  })

  test('where registration is not open, no token is looked at', async () => {
    const closed = await clientServer()
    expect(await closed.ask('GET', `${validity}?token=x`)).toMatchObject({
      status: 403,
      body: { errcode: 'M_FORBIDDEN' },
    })
    await closed.close()
  })
})

describe('the admin API of Synapse for registration tokens', () => {
  test('made as asked, or at random', async () => {
    const expiry_time = clock.now() + 60_000
    const wanted = { token: 'The.token_~-1', uses_allowed: 2, expiry_time }
    expect(await make(wanted)).toEqual({ ...wanted, pending: 0, completed: 0 })
    expect((await make()).token).toMatch(/^[A-Za-z0-9._~-]{16}$/)
    expect((await make({ length: 64 })).token).toMatch(/^[A-Za-z0-9._~-]{64}$/)
    expect(await make({ token: null, uses_allowed: null, expiry_time: null })).toMatchObject({
      uses_allowed: null,
      expiry_time: null,
    })
  })

  test.each<[string, object]>([
    ['a token that is there', { token: 'The.token_~-1' }],
    ['other characters', { token: 'a b' }],
    ['too long', { token: 'a'.repeat(65) }],
    ['empty', { token: '' }],
    ['no length', { length: 0 }],
    ['too great a length', { length: 65 }],
    ['fewer than no uses', { uses_allowed: -1 }],
    ['half a use', { uses_allowed: 1.5 }],
    ['a time that is over', { expiry_time: 1 }],
  ])('refused: %s', async (_, body) => {
    expect((await admin.ask('POST', `${path}/new`, body)).status).toBe(400)
  })

  test('listed, by whether they are valid', async () => {
    const { token: used } = await make({ uses_allowed: 0 })
    const { token: good } = await make()
    const tokens = async (query = '') =>
      (await admin.must('GET', `${path}${query}`)).registration_tokens.map((one: { token: string }) => one.token)
    expect(await tokens()).toEqual(expect.arrayContaining([used, good]))
    expect(await tokens('?valid=true')).toContain(good)
    expect(await tokens('?valid=true')).not.toContain(used)
    expect(await tokens('?valid=false')).toContain(used)
    expect(await tokens('?valid=false')).not.toContain(good)
    expect((await admin.ask('GET', `${path}?valid=maybe`)).status).toBe(400)
  })

  test('changed in what is given, and deleted with what holds it', async () => {
    const { token } = await make({ uses_allowed: 1 })
    const expiry_time = clock.now() + 60_000
    expect(await admin.must('PUT', `${path}/${token}`, { expiry_time })).toMatchObject({ uses_allowed: 1, expiry_time })
    expect(await admin.must('PUT', `${path}/${token}`, { uses_allowed: null })).toMatchObject({
      uses_allowed: null,
      expiry_time,
    })
    await server.ask('POST', 'register', { auth: { type: 'm.login.registration_token', token } })
    expect(await look(token)).toMatchObject({ pending: 1 })
    expect(await admin.must('DELETE', `${path}/${token}`)).toEqual({})
    for (const method of ['GET', 'PUT', 'DELETE']) {
      const answer = await admin.ask(method, `${path}/${token}`, method === 'PUT' ? {} : undefined)
      expect(answer, method).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } })
    }
  })

  test('for administrators', async () => {
    const someone = await server.register('someone')
    expect(await someone.ask('GET', path)).toMatchObject({ status: 403 })
    expect(await someone.ask('POST', `${path}/new`, {})).toMatchObject({ status: 403 })
  })
})
