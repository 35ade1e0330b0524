/** A real peer: Synapse, in a network of its own. Users of both share rooms that either made; at the end both tell the same of
 *  them, and also after each was away for a while. Where test/synapse/install.sh was not run, or this is not root, it is left
 *  out. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type CryptoClient, cryptoClient, cryptoOf, deciphers } from '../client/crypto-client.ts'
import { until } from '../client/sdk-client.ts'
import { becomes } from '../client/sdk-server.ts'
import { type TestDatabase, testDatabase } from '../support/database.ts'
import { type ServerProcess, serverProcess } from '../support/server-process.ts'
import { synapseInstalled } from './installed.ts'
import { networksPossible, type SecondNetwork, secondNetwork } from './second-network.ts'
import { type Person, person, type SeenEvent } from './side.ts'
import { type SynapseServer, synapseServer } from './synapse-server.ts'

const possible = synapseInstalled && networksPossible()
const waits = { timeout: 90_000, interval: 300 }
/** Each way. */
const messages = 200

describe.runIf(possible)('with Synapse', { timeout: 300_000 }, () => {
  let network: SecondNetwork
  let folder: string
  let database: TestDatabase
  let ours: ServerProcess
  let theirs: SynapseServer
  let alice: Person
  let bob: Person
  beforeAll(async () => {
    network = secondNetwork()
    folder = mkdtempSync(path.join(tmpdir(), 'ganglion-peer-'))
    const [keyPath, caPath] = [path.join(folder, 'key.pem'), path.join(folder, 'cert.pem')]
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
        ...['-keyout', keyPath, '-out', caPath, '-subj', '/CN=peers.test'],
        ...['-addext', `subjectAltName=IP:${network.here},IP:${network.there}`],
      ],
      { stdio: 'ignore' },
    )
    database = await testDatabase()
    const here = `${network.here}:8448`
    ours = await serverProcess({
      databaseUrl: database.url,
      serverName: here,
      listeners: [
        `{ port: 8448, bind: ${network.here}, tls_certificate_path: ${caPath}, tls_private_key_path: ${keyPath} }`,
      ],
      config: `federation: { ca_path: ${caPath} }\negress: { allowed_ranges: ["10.213.0.0/16"] }`,
    })
    theirs = synapseServer({ network, certificatePath: caPath, keyPath, caPath })
    await Promise.all([ours.start(), theirs.start()])
    alice = person(ours.baseUrl, here, await ours.register('alice'))
    bob = person(theirs.baseUrl, theirs.server_name, await theirs.register('bob'))
  }, 120_000)
  afterAll(async () => {
    await ours?.close()
    await theirs?.close()
    await database?.drop()
    network?.close()
    if (folder) rmSync(folder, { recursive: true, force: true })
  })

  const rooms: string[] = []
  const both = () => [alice, bob] as const
  const bodies = (events: readonly SeenEvent[]) =>
    events.filter(({ type }) => type === 'm.room.message').map(({ content }) => String(content.body))
  /** Both see what the other sees. */
  async function agreeOn(room_id: string): Promise<void> {
    await expect.poll(() => alice.state(room_id), waits).toEqual(await bob.state(room_id))
    const [hers, his] = await Promise.all(both().map((one) => one.timeline(room_id)))
    const ids = (events: readonly SeenEvent[] = []) => events.map(({ event_id }) => event_id).toSorted()
    expect(ids(hers)).toEqual(ids(his))
    const content = (events: readonly SeenEvent[] = []) =>
      Object.fromEntries(events.map(({ event_id, type, content: said }) => [event_id, { type, said }]))
    expect(content(hers)).toEqual(content(his))
    // What one user said comes in the order in which it was said.
    for (const { user_id } of both()) {
      const said = (events: readonly SeenEvent[] = []) => bodies(events.filter(({ sender }) => sender === user_id))
      expect(said(hers)).toEqual(said(his))
    }
  }
  const seenBy = (who: Person, room_id: string, body: string) =>
    expect.poll(async () => bodies(await who.timeline(room_id)), waits).toContain(body)
  async function makeRoom(who: Person, more: object = {}): Promise<string> {
    const { room_id } = await who.ask('POST', '/createRoom', { preset: 'public_chat', ...more })
    return String(room_id)
  }

  test.each(['10', '12'])('a room of version %s that either makes is joined by the other', async (room_version) => {
    for (const [maker, guest] of [both(), both().toReversed()] as [Person, Person][]) {
      const room_id = await makeRoom(maker, { room_version, name: `made by ${maker.user_id}` })
      await maker.say(room_id, 'before')
      await guest.join(room_id, maker.server_name)
      await guest.say(room_id, 'here I am')
      await seenBy(maker, room_id, 'here I am')
      await maker.say(room_id, 'welcome')
      await seenBy(guest, room_id, 'welcome')
      rooms.push(room_id)
    }
  })

  test('200 messages each way, interleaved', async () => {
    for (const room_id of rooms.slice(0, 2)) {
      const talk = async (who: Person) => {
        for (let i = 0; i < messages; i++) await who.say(room_id, `${who.user_id} ${i}`)
      }
      await Promise.all(both().map(talk))
      for (const who of both()) {
        for (const speaker of both()) await seenBy(who, room_id, `${speaker.user_id} ${messages - 1}`)
      }
      await agreeOn(room_id)
    }
  })

  test('state and redactions', async () => {
    for (const room_id of rooms) {
      const maker = room_id === rooms[0] || room_id === rooms[2] ? alice : bob
      const guest = maker === alice ? bob : alice
      const levels = await maker.ask('GET', `/rooms/${encodeURIComponent(room_id)}/state/m.room.power_levels`)
      const users = { ...(levels.users as object), [guest.user_id]: 50 }
      await maker.setState(room_id, 'm.room.power_levels', '', { ...levels, users })
      const seesPower = async () => {
        const now = await guest.ask('GET', `/rooms/${encodeURIComponent(room_id)}/state/m.room.power_levels`)
        return (now.users as Record<string, number>)[guest.user_id]
      }
      await expect.poll(seesPower, waits).toBe(50)
      const regretted = await Promise.all(both().map((who) => who.say(room_id, `regretted by ${who.user_id}`)))
      await Promise.all([
        guest.setState(room_id, 'm.room.topic', '', { topic: 'by the guest' }),
        maker.setState(room_id, 'm.room.name', '', { name: 'by the maker' }),
      ])
      for (const who of both())
        await seenBy(who, room_id, `regretted by ${who === alice ? bob.user_id : alice.user_id}`)
      for (const [i, who] of both().entries()) {
        await who.ask(
          'PUT',
          `/rooms/${encodeURIComponent(room_id)}/redact/${encodeURIComponent(regretted[i] ?? '')}/r${i}${Date.now()}`,
          { reason: 'spoken too soon' },
        )
      }
      for (const who of both()) {
        const left = async () => bodies(await who.timeline(room_id)).filter((body) => body.startsWith('regretted'))
        await expect.poll(left, waits).toEqual([])
      }
      await agreeOn(room_id)
    }
  })

  test('invitations, taken and turned down, and leaves', async () => {
    for (const [host, guest] of [both(), both().toReversed()] as [Person, Person][]) {
      const secret = await makeRoom(host, { preset: 'private_chat', name: 'secret' })
      await host.ask('POST', `/rooms/${encodeURIComponent(secret)}/invite`, { user_id: guest.user_id })
      await expect.poll(() => guest.membership(secret), waits).toBe('invite')
      await guest.join(secret)
      await guest.say(secret, 'thanks')
      await seenBy(host, secret, 'thanks')
      await guest.ask('POST', `/rooms/${encodeURIComponent(secret)}/leave`, {})
      const memberOf = async () =>
        (
          await host.ask(
            'GET',
            `/rooms/${encodeURIComponent(secret)}/state/m.room.member/${encodeURIComponent(guest.user_id)}`,
          )
        ).membership
      await expect.poll(memberOf, waits).toBe('leave')

      await host.ask('POST', `/rooms/${encodeURIComponent(secret)}/invite`, { user_id: guest.user_id })
      await expect.poll(() => guest.membership(secret), waits).toBe('invite')
      await guest.ask('POST', `/rooms/${encodeURIComponent(secret)}/leave`, {})
      await expect.poll(memberOf, waits).toBe('leave')
    }
  })

  test('a room that is replaced is followed', async () => {
    for (const [maker, guest] of [both(), both().toReversed()] as [Person, Person][]) {
      const old = await makeRoom(maker, { room_version: '10' })
      await guest.join(old, maker.server_name)
      const { replacement_room } = await maker.ask('POST', `/rooms/${encodeURIComponent(old)}/upgrade`, {
        new_version: '11',
      })
      const tombstone = async () => {
        const state = await guest.state(old)
        return Object.keys(state).some((key) => key.startsWith('m.room.tombstone'))
      }
      await expect.poll(tombstone, waits).toBe(true)
      await guest.join(String(replacement_room), maker.server_name)
      await guest.say(String(replacement_room), 'followed')
      await seenBy(maker, String(replacement_room), 'followed')
      await agreeOn(String(replacement_room))
    }
  })

  test('an encrypted conversation, also with a device that comes later, and after each server was started anew', async () => {
    const device = (who: Person) => cryptoClient({ ...who.account, baseUrl: who.baseUrl }, new Map())
    const [hers, his] = await Promise.all(both().map(device))
    if (!hers || !his) throw new Error('no clients')
    const more: CryptoClient[] = []
    try {
      const encryption = { algorithm: 'm.megolm.v1.aes-sha2' }
      const room = await makeRoom(alice, {
        initial_state: [{ type: 'm.room.encryption', state_key: '', content: encryption }],
      })
      await bob.join(room, alice.server_name)
      for (const client of [hers, his]) await becomes(client, room, 'join')
      const membersOf = (client: CryptoClient) => client.getRoom(room)?.getJoinedMemberCount()
      for (const client of [hers, his]) await until(client, () => membersOf(client) === 2, 'both members')
      for (const [from, to, body] of [
        [hers, his, 'from Ganglion'],
        [his, hers, 'from Synapse'],
      ] as const) {
        await from.sendTextMessage(room, body)
        await deciphers(to, room, body)
      }
      // A new device of each: the other's server tells of it, and the other shares the next keys with it.
      for (const [who, speaker] of [
        [alice, his],
        [bob, hers],
      ] as const) {
        const { password, user_id } = who.account
        const answer = await who.ask('POST', '/login', {
          type: 'm.login.password',
          identifier: { type: 'm.id.user', user: user_id },
          password,
        })
        const { access_token, device_id } = answer as { access_token: string; device_id: string }
        const later = await cryptoClient(
          { user_id, access_token, device_id, password, baseUrl: who.baseUrl },
          new Map(),
        )
        more.push(later)
        await becomes(later, room, 'join')
        const knows = async () =>
          (await cryptoOf(speaker).getUserDeviceInfo([user_id])).get(user_id)?.has(device_id) === true
        await until(speaker, knows, 'the new device')
        const body = `to the new device of ${user_id}`
        await speaker.sendTextMessage(room, body)
        await deciphers(later, room, body)
      }
      await theirs.stop()
      await hers.sendTextMessage(room, 'while Synapse was away')
      await ours.stop()
      await Promise.all([ours.start(), theirs.start()])
      await deciphers(his, room, 'while Synapse was away')
      await his.sendTextMessage(room, 'heard')
      await deciphers(hers, room, 'heard')
    } finally {
      for (const client of [hers, his, ...more]) client.stopClient()
    }
  })

  test('who was away catches up', async () => {
    await theirs.stop()
    for (let i = 0; i < 30; i++) for (const room_id of rooms) await alice.say(room_id, `while Synapse was away ${i}`)
    await theirs.start()
    for (const room_id of rooms) await seenBy(bob, room_id, 'while Synapse was away 29')

    await ours.stop()
    for (let i = 0; i < 30; i++) for (const room_id of rooms) await bob.say(room_id, `while Ganglion was away ${i}`)
    await ours.start()
    for (const room_id of rooms) await seenBy(alice, room_id, 'while Ganglion was away 29')
    for (const room_id of rooms) {
      await alice.say(room_id, 'the last word')
      await seenBy(bob, room_id, 'the last word')
      await agreeOn(room_id)
    }
  })
})
