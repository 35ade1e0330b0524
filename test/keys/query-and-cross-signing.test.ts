import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey, type SigningKey, signJson } from '../../shared/matrix/signatures.ts'
import { type ClientServer, clientServer, password, type TestClient } from '../support/client-server.ts'
import { crossSigning, crossSigningKey, namedKey, olmDevice } from '../support/olm-keys.ts'

let server: ClientServer
let names = 0
beforeAll(async () => {
  server = await clientServer()
})
afterAll(() => server.close())

/** A user whose device has keys. */
async function person(name: string) {
  const client = await server.register(`${name}${++names}`)
  const olm = olmDevice(client)
  await client.must('POST', 'keys/upload', { device_keys: olm.device_keys })
  return { ...client, olm }
}
const query = (asker: TestClient, ...users: string[]) =>
  asker.must('POST', 'keys/query', { device_keys: Object.fromEntries(users.map((user) => [user, []])) })
const signing = (client: TestClient, body: object) => client.ask('POST', 'keys/device_signing/upload', body)
const auth = (client: TestClient) => ({
  type: 'm.login.password',
  identifier: { type: 'm.id.user', user: client.user_id },
  password,
})
/** The object with this signature alone. */
const signedBy = (object: JsonObject, user_id: string, key: SigningKey) => {
  const { signatures: _, ...rest } = object
  return signJson(rest, user_id, key)
}
const signatures = async (client: TestClient, body: object) =>
  (await client.must('POST', 'keys/signatures/upload', body)).failures

describe('client-server-api/#post_matrixclientv3keysquery', () => {
  test('keys come as they were uploaded, with the name of the device; all devices or those asked for', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const second = await server.login(alice.user_id, 'SECOND')
    const olm = olmDevice(second)
    await second.must('POST', 'keys/upload', { device_keys: olm.device_keys })
    await alice.must('PUT', `devices/${alice.device_id}`, { display_name: 'Kitchen' })
    const all = await query(bob, alice.user_id)
    expect(all).toMatchObject({ failures: {}, master_keys: {}, self_signing_keys: {}, user_signing_keys: {} })
    expect(all.device_keys[alice.user_id]).toEqual({
      [alice.device_id]: { ...alice.olm.device_keys, unsigned: { device_display_name: 'Kitchen' } },
      SECOND: { ...olm.device_keys, unsigned: {} },
    })
    const one = await bob.must('POST', 'keys/query', { device_keys: { [alice.user_id]: ['SECOND', 'NONE'] } })
    expect(Object.keys(one.device_keys[alice.user_id])).toEqual(['SECOND'])
  })

  test('users without keys are there, and servers out of reach are failures', async () => {
    const alice = await server.register(`alice${++names}`)
    const answer = await query(alice, alice.user_id, '@nobody:hs1', '@x:elsewhere')
    expect(answer.device_keys).toEqual({ [alice.user_id]: {}, '@nobody:hs1': {} })
    expect(Object.keys(answer.failures)).toEqual(['elsewhere'])
  })

  test('more users than are read at once', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const many = Array.from({ length: 450 }, (_, i) => `@none${i}:hs1`)
    const answer = await query(alice, alice.user_id, ...many, bob.user_id)
    expect(Object.keys(answer.device_keys)).toHaveLength(452)
    expect(Object.keys(answer.device_keys[bob.user_id])).toEqual([bob.device_id])
  })

  test.each([
    ['devices as an object', 'M_BAD_JSON', { device_keys: { '@a:hs1': { D: true } } }],
    ['users as a list', 'M_BAD_JSON', { device_keys: ['@a:hs1'] }],
    ['no device_keys', 'M_MISSING_PARAM', {}],
    ['a timeout that is a text', 'M_BAD_JSON', { timeout: 'x', device_keys: {} }],
  ])('refused: %s', async (_, errcode, body) => {
    const refused = await (await person('alice')).ask('POST', 'keys/query', body)
    expect(refused).toMatchObject({ status: 400, body: { errcode } })
  })
})

describe('client-server-api/#post_matrixclientv3keysdevice_signingupload', () => {
  test('the first set is free, and so is the same again; other keys need the password, each time', async () => {
    const alice = await person('alice')
    const first = crossSigning(alice.user_id)
    expect(await signing(alice, first.body)).toEqual({ status: 200, body: {} })
    expect(await signing(alice, first.body)).toEqual({ status: 200, body: {} })
    expect(await signing(alice, { master_key: first.body.master_key })).toEqual({ status: 200, body: {} })
    for (let i = 0; i < 2; i++) {
      const { body } = crossSigning(alice.user_id)
      const asked = await signing(alice, body)
      expect(asked).toMatchObject({ status: 401, body: { flows: [{ stages: ['m.login.password'] }] } })
      const wrong = { ...auth(alice), password: 'wrong', session: asked.body.session }
      expect(await signing(alice, { ...body, auth: wrong })).toMatchObject({ status: 401 })
      const right = { ...auth(alice), session: asked.body.session }
      expect(await signing(alice, { ...body, auth: right })).toEqual({ status: 200, body: {} })
      expect((await query(alice, alice.user_id)).master_keys[alice.user_id].keys).toEqual(
        (body.master_key as JsonObject).keys,
      )
    }
  })

  test('new self-signing and user-signing keys under the same master key need it too', async () => {
    const alice = await person('alice')
    const { master, body } = crossSigning(alice.user_id)
    await signing(alice, { master_key: body.master_key })
    const others = { self_signing_key: body.self_signing_key, user_signing_key: body.user_signing_key }
    const asked = await signing(alice, others)
    expect(asked.status).toBe(401)
    const session = { ...auth(alice), session: asked.body.session }
    expect((await signing(alice, { ...others, auth: session })).status).toBe(200)
    expect(await signing(alice, others)).toEqual({ status: 200, body: {} })
    // A key that the master key has not signed.
    const loose = crossSigningKey(alice.user_id, 'self_signing', namedKey())
    const strange = crossSigningKey(alice.user_id, 'self_signing', namedKey(), namedKey())
    for (const self_signing_key of [loose, strange]) {
      const refused = await signing(alice, { self_signing_key, auth: auth(alice) })
      expect(refused).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_SIGNATURE' } })
    }
    expect(master).toBeDefined()
  })

  test('a new master key takes along what the former one signed', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const [former, bobs] = [crossSigning(alice.user_id), crossSigning(bob.user_id)]
    await signing(alice, former.body)
    await signing(bob, bobs.body)
    const device = signedBy(alice.olm.device_keys, alice.user_id, former.selfSigning)
    await signatures(alice, { [alice.user_id]: { [alice.device_id]: device } })
    const master = signedBy(former.body.master_key, bob.user_id, bobs.userSigning)
    const masterId = former.master.publicKeyBase64
    await signatures(bob, { [alice.user_id]: { [masterId]: master } })
    const next = crossSigning(alice.user_id)
    await signing(alice, { master_key: next.body.master_key, auth: auth(alice) })
    const seen = await query(bob, alice.user_id)
    expect(seen.self_signing_keys).toEqual({})
    expect(seen.master_keys[alice.user_id].signatures).toEqual({})
    expect(seen.device_keys[alice.user_id][alice.device_id].signatures).toEqual(alice.olm.device_keys.signatures)
    expect(await server.main.database.sql`select from key_signatures where user_id = ${alice.user_id}`).toHaveLength(0)
  })

  test('a key is not named as a device, nor a device as a key', async () => {
    const alice = await person('alice')
    const { body, master } = crossSigning(alice.user_id)
    await server.login(alice.user_id, master.publicKeyBase64)
    expect(await signing(alice, body)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } })
    const other = crossSigning(alice.user_id)
    await signing(alice, other.body)
    await expect(server.login(alice.user_id, other.master.publicKeyBase64)).rejects.toMatchObject({
      errcode: 'M_FORBIDDEN',
    })
  })

  test('bad keys are refused', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const { body } = crossSigning(alice.user_id)
    const master = body.master_key
    const bad: [object, string][] = [
      [{}, 'M_MISSING_PARAM'],
      [{ self_signing_key: body.self_signing_key }, 'M_MISSING_PARAM'],
      [{ master_key: crossSigning(bob.user_id).body.master_key }, 'M_INVALID_PARAM'],
      [{ master_key: { ...master, usage: ['self_signing'] } }, 'M_INVALID_PARAM'],
      [{ master_key: { ...master, keys: {} } }, 'M_INVALID_PARAM'],
      [{ master_key: { ...master, keys: { 'ed25519:x': 'x' } } }, 'M_INVALID_PARAM'],
      [{ master_key: { ...master, keys: { 'ed25519:x': generateSigningKey().publicKeyBase64 } } }, 'M_INVALID_PARAM'],
      [{ master_key: { ...master, keys: 1 } }, 'M_BAD_JSON'],
      [{ ...body, user_signing_key: { ...body.self_signing_key, usage: ['user_signing'] } }, 'M_INVALID_PARAM'],
    ]
    for (const [sent, errcode] of bad) {
      expect(await signing(alice, sent), JSON.stringify(sent)).toMatchObject({ status: 400, body: { errcode } })
    }
    expect((await query(alice, alice.user_id)).master_keys).toEqual({})
  })
})

describe('client-server-api/#key-and-signature-security', () => {
  test('who sees which keys and signatures', async () => {
    const [alice, bob, carol] = [await person('alice'), await person('bob'), await person('carol')]
    const [alices, bobs] = [crossSigning(alice.user_id), crossSigning(bob.user_id)]
    await signing(alice, alices.body)
    await signing(bob, bobs.body)
    const bobMaster = bobs.master.publicKeyBase64
    const failures = await signatures(alice, {
      [alice.user_id]: {
        [alice.device_id]: signedBy(alice.olm.device_keys, alice.user_id, alices.selfSigning),
        [alices.master.publicKeyBase64]: signedBy(alices.body.master_key, alice.user_id, alice.olm.signing),
      },
      [bob.user_id]: { [bobMaster]: signedBy(bobs.body.master_key, alice.user_id, alices.userSigning) },
    })
    expect(failures).toEqual({})

    const own = await query(alice, alice.user_id, bob.user_id)
    expect(own.user_signing_keys).toEqual({ [alice.user_id]: alices.body.user_signing_key })
    expect(own.master_keys[bob.user_id].signatures).toEqual({
      [alice.user_id]: { [alices.userSigning.keyId]: expect.any(String) },
    })
    const others = await query(carol, alice.user_id, bob.user_id)
    expect(others.user_signing_keys).toEqual({})
    expect(others.master_keys[bob.user_id].signatures).toEqual({})
    expect(others.self_signing_keys[bob.user_id]).toEqual(bobs.body.self_signing_key)
    for (const seen of [own, others]) {
      const device = seen.device_keys[alice.user_id][alice.device_id]
      expect(Object.keys(device.signatures[alice.user_id]).toSorted()).toEqual(
        [alice.olm.signing.keyId, alices.selfSigning.keyId].toSorted(),
      )
      expect(Object.keys(seen.master_keys[alice.user_id].signatures[alice.user_id])).toEqual([alice.olm.signing.keyId])
    }
    expect((await query(bob, bob.user_id)).master_keys[bob.user_id].signatures).toEqual({})

    // Other identity keys under the same name are not what was signed.
    await alice.must('POST', 'keys/upload', { device_keys: olmDevice(alice).device_keys })
    const anew = await query(carol, alice.user_id)
    expect(Object.keys(anew.device_keys[alice.user_id][alice.device_id].signatures[alice.user_id])).toHaveLength(1)
    expect(anew.master_keys[alice.user_id].signatures).toEqual({})
  })
})

describe('client-server-api/#post_matrixclientv3keyssignaturesupload', () => {
  test('each signature that does not hold is a failure, the others are kept', async () => {
    const [alice, bob] = [await person('alice'), await person('bob')]
    const [alices, bobs] = [crossSigning(alice.user_id), crossSigning(bob.user_id)]
    await signing(alice, alices.body)
    await signing(bob, bobs.body)
    const device = alice.olm.device_keys
    const bobMaster = bobs.master.publicKeyBase64
    const upload = (user: string, key_id: string, object: JsonObject) =>
      signatures(alice, { [user]: { [key_id]: object } })
    const invalid = { errcode: 'M_INVALID_SIGNATURE' }
    const cases: [string, string, JsonObject, { errcode: string }][] = [
      // Signed by a key that is not there.
      [alice.user_id, alice.device_id, signedBy(device, alice.user_id, namedKey()), invalid],
      // By a key that may not sign this.
      [alice.user_id, alice.device_id, signedBy(device, alice.user_id, alices.userSigning), invalid],
      [bob.user_id, bobMaster, signedBy(bobs.body.master_key, alice.user_id, alices.selfSigning), invalid],
      // In the name of somebody else.
      [bob.user_id, bobMaster, signedBy(bobs.body.master_key, bob.user_id, bobs.userSigning), invalid],
      // Another object.
      [alice.user_id, alice.device_id, signedBy({ ...device, more: 1 }, alice.user_id, alices.selfSigning), invalid],
      // A signature of something else.
      [
        alice.user_id,
        alice.device_id,
        { ...device, signatures: signJson({}, alice.user_id, alices.selfSigning).signatures ?? {} },
        invalid,
      ],
      [alice.user_id, 'NONE', signedBy(device, alice.user_id, alices.selfSigning), { errcode: 'M_NOT_FOUND' }],
      [
        bob.user_id,
        bob.device_id,
        signedBy(bob.olm.device_keys, alice.user_id, alices.userSigning),
        { errcode: 'M_NOT_FOUND' },
      ],
      ['@x:elsewhere', 'D', {}, { errcode: 'M_NOT_FOUND' }],
    ]
    for (const [user, key_id, object, failure] of cases) {
      expect(await upload(user, key_id, object)).toMatchObject({ [user]: { [key_id]: failure } })
    }
    expect(await server.main.database.sql`select from key_signatures where signer = ${alice.user_id}`).toHaveLength(0)
    const mixed = await signatures(alice, {
      [alice.user_id]: { [alice.device_id]: signedBy(device, alice.user_id, alices.selfSigning), NONE: device },
    })
    expect(mixed).toEqual({ [alice.user_id]: { NONE: { errcode: 'M_NOT_FOUND', error: expect.any(String) } } })
    expect(await server.main.database.sql`select from key_signatures where signer = ${alice.user_id}`).toHaveLength(1)
  })

  test('what is no object of objects is refused', async () => {
    const alice = await person('alice')
    for (const body of [{ alice: {} }, { [alice.user_id]: [] }, { [alice.user_id]: { D: 'x' } }]) {
      const { status, body: error } = await alice.ask('POST', 'keys/signatures/upload', body)
      expect([status, error.errcode], JSON.stringify(body)).toEqual([
        400,
        expect.stringMatching(/M_BAD_JSON|M_INVALID_PARAM/),
      ])
    }
  })
})
