/** What two users and their devices do with end-to-end encryption, whatever the server is made of; all of the server is killed
 *  between the steps. */
import * as sdk from 'matrix-js-sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { HttpClient } from '../support/http-client.ts'
import {
  type CryptoClient,
  cryptoClient,
  cryptoOf,
  deciphers,
  decrypted,
  type Recovery,
  setUpCrossSigning,
  setUpRecovery,
  verify,
} from './crypto-client.ts'
import { type Account, type Client, until } from './sdk-client.ts'
import { joins, membership, text } from './sdk-server.ts'
import { slidingSync } from './sliding-client.ts'
import { type Stage, stages } from './stages.ts'

/** A file of its own for each, so that they take place at the same time. */
export function describeEncryption(name: keyof typeof stages): void {
  describe.runIf(stages[name].there)(`client-server-api/#end-to-end-encryption, ${name}`, () => {
    let stage: Stage | undefined
    beforeAll(async () => {
      stage = await stages[name].open()
    })
    afterAll(() => stage?.close())

    test.each(['sync', 'sliding sync'] as const)(
      'by %s: two users and their devices, through kills of the whole server',
      { timeout: 240_000 },
      async (by) => {
        if (!stage) throw new Error('the server has not been started')
        await encryptionStory(stage, by)
      },
    )
  })
}

const startOptions = {
  sync: () => ({}),
  'sliding sync': (client: Client) => ({ slidingSync: slidingSync(client) }),
}

async function encryptionStory(stage: Stage, by: keyof typeof startOptions): Promise<void> {
  const clients: CryptoClient[] = []
  try {
    await play(stage, async (account, recovery) => {
      const client = await cryptoClient({ ...account, baseUrl: stage.baseUrl }, recovery, startOptions[by])
      clients.push(client)
      return client
    })
  } finally {
    for (const client of clients) client.stopClient()
  }
}

type Enter = (account: Account & { password: string }, recovery: Recovery) => Promise<CryptoClient>

async function play(stage: Stage, enter: Enter): Promise<void> {
  const person = async (name: string, recovery: Recovery) => enter(await stage.register(name), recovery)
  const furtherDevice = async (of: CryptoClient, recovery: Recovery) => {
    const login = await sdk.createClient({ baseUrl: stage.baseUrl }).loginWithPassword(of.getSafeUserId(), of.password)
    return enter({ ...login, password: of.password }, recovery)
  }
  const [hers, his]: [Recovery, Recovery] = [new Map(), new Map()]
  const phone = await person('alice', hers)
  const bob = await person('bob', his)
  const laptop = await furtherDevice(phone, hers)
  const [alice_id, bob_id] = [phone.getSafeUserId(), bob.getSafeUserId()]

  // An encrypted room: every device of both reads what each writes.
  const { room_id } = await phone.createRoom({
    preset: sdk.Preset.TrustedPrivateChat,
    is_direct: true,
    invite: [bob_id],
    initial_state: [{ type: 'm.room.encryption', state_key: '', content: { algorithm: 'm.megolm.v1.aes-sha2' } }],
  })
  await until(bob, () => membership(bob, room_id) === 'invite', 'the invite')
  await joins(bob, room_id)
  await until(phone, () => phone.getRoom(room_id)?.getJoinedMemberCount() === 2, 'bob in the room')
  const { event_id } = await text(phone, room_id, 'one')
  for (const client of [bob, laptop]) await deciphers(client, room_id, 'one')
  const stored = await phone.fetchRoomEvent(room_id, event_id)
  expect(stored.type).toBe('m.room.encrypted')

  await stage.restart()
  await text(bob, room_id, 'two')
  for (const client of [phone, laptop]) await deciphers(client, room_id, 'two')

  // Cross-signing, with what only the user knows kept in secret storage, and a backup of the keys of rooms.
  await setUpCrossSigning(phone)
  await setUpRecovery(phone)
  expect(hers.size).toBe(1)
  await stage.restart()
  await verify(() => cryptoOf(laptop).requestDeviceVerification(alice_id, phone.getDeviceId()!), phone)
  const isOwn = async () =>
    (await cryptoOf(bob).getDeviceVerificationStatus(alice_id, laptop.getDeviceId()!))?.signedByOwner === true
  await until(bob, isOwn, "the laptop signed by alice's own key")
  await until(laptop, () => cryptoOf(laptop).isCrossSigningReady(), 'the private keys on the laptop')

  // The two users verify each other, over the room.
  await setUpCrossSigning(bob)
  await stage.restart()
  await until(laptop, () => cryptoOf(laptop).userHasCrossSigningKeys(bob_id), "bob's keys on the laptop")
  await verify(() => cryptoOf(laptop).requestVerificationDM(bob_id, room_id), bob)
  const trusts = async () => (await cryptoOf(phone).getUserVerificationStatus(bob_id)).isCrossSigningVerified()
  await until(phone, trusts, 'bob verified on the other device too')

  // One-time keys run out while bob is away: the fallback key opens the next session.
  bob.offline = true
  const { hostname, port } = new URL(stage.baseUrl)
  const http = new HttpClient(hostname, Number(port))
  const claim = { one_time_keys: { [bob_id]: { [bob.getDeviceId()!]: 'signed_curve25519' } } }
  let claimed = 0
  for (let fallback = false; !fallback; claimed++) {
    const answer = await http.json<{ one_time_keys: Record<string, Record<string, Record<string, object>>> }>(
      'POST',
      '/_matrix/client/v3/keys/claim',
      phone.getAccessToken()!,
      claim,
    )
    const key = Object.values(answer.one_time_keys[bob_id]?.[bob.getDeviceId()!] ?? {})[0]
    fallback = key !== undefined && 'fallback' in key
    expect(claimed).toBeLessThan(200)
  }
  http.close()
  expect(claimed).toBeGreaterThan(10)

  // A new device restores the backup by what alice wrote down, and reads what was said before it was there.
  await stage.restart()
  const tablet = await furtherDevice(phone, hers)
  expect(await cryptoOf(tablet).userHasCrossSigningKeys(alice_id, true)).toBe(true)
  await setUpCrossSigning(tablet)
  const crypto = cryptoOf(tablet)
  await crypto.loadSessionBackupPrivateKeyFromSecretStorage()
  await crypto.checkKeyBackupAndEnable()
  const { total, imported } = await crypto.restoreKeyBackup()
  expect(imported).toBe(total)
  for (const body of ['one', 'two']) await deciphers(tablet, room_id, body)

  await text(tablet, room_id, 'three')
  bob.offline = false
  for (const client of [phone, laptop, bob]) await deciphers(client, room_id, 'three')
  expect(decrypted(bob, room_id).filter((body) => ['one', 'two', 'three'].includes(body))).toEqual([
    'one',
    'two',
    'three',
  ])
}
