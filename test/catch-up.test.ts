/** Every stream: whoever missed its updates reads in their place what brings it to the same state. A new stream is tested by
 *  existing; one whose rows nothing below makes fails. */
import * as v from 'valibot'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { shardOf } from '../shared/commands/shards.ts'
import type { DeviceId, EventId, UserId } from '../shared/matrix/ids.ts'
import { generateSigningKey, signJson } from '../shared/matrix/signatures.ts'
import { encodeUpdate, parseLogEntry } from '../shared/replication/messages.ts'
import { pgText } from '../shared/storage/sql.ts'
import { GapTooOldError } from '../shared/storage/stream-gaps.ts'
import type { StreamUpdate } from '../shared/streams/define.ts'
import { type RowOf, type StreamName, streamNames, streams } from '../shared/streams/registry.ts'
import { type TestMain, testMain } from './support/main.ts'

type Row = RowOf<StreamName>

let main: TestMain
const published = new Map<StreamName, StreamUpdate<Row>[]>(streamNames.map((name) => [name, []]))
const rowsOf = (name: StreamName) => published.get(name)?.flatMap((update) => update.rows) ?? []

beforeAll(async () => {
  main = await testMain()
  for (const name of streamNames) {
    main.replication.subscribe(name, (update) => published.get(name)?.push(update))
  }
  const { commands } = main
  const [alice, bob, carol] = [await main.user('alice'), await main.user('bob'), await main.user('carol')]
  const { room_id } = await commands.createRoom({ user_id: alice, preset: 'public_chat', name: 'a', invite: [carol] })
  for (const user_id of [bob, carol]) {
    await commands.changeMembership({ action: 'join', room_id, user_id, target: user_id } as never)
  }
  const sent: EventId[] = []
  for (let i = 0; i < 4; i++) {
    const content = { msgtype: 'm.text', body: i === 3 ? 'bob: \u0000 look' : `message ${i}` }
    const thread = sent[0] && { 'm.relates_to': { rel_type: 'm.thread', event_id: sent[0] } }
    const request = { room_id, user_id: alice, type: 'm.room.message', content: { ...content, ...thread } }
    sent.push((await commands.sendEvent({ ...request, txn_id: `t${i}`, device_id: 'D' as never })).event_id)
  }
  await commands.sendEvent({ room_id, user_id: alice, type: 'm.room.topic', state_key: '', content: { topic: 'one' } })
  await commands.sendEvent({ room_id, user_id: alice, type: 'm.room.topic', state_key: '', content: { topic: 'two' } })
  await commands.sendEvent({ room_id, user_id: alice, type: 'm.room.redaction', redacts: sent[1]!, content: {} })
  await commands.changeMembership({ action: 'leave', room_id, user_id: carol, target: carol } as never)
  for (const event_id of [sent[0]!, sent[3]!]) {
    const receipts = [{ receipt_type: 'm.read' as const, event_id, thread_id: '' }]
    await commands.sendReceipts({ user_id: bob, room_id, receipts })
  }
  await commands.setAccountData({ user_id: bob, type: 'org.example', content: '{"a":1}' })
  await commands.setAccountData({ user_id: bob, room_id, type: 'org.example', content: '{"a":2}' })
  await commands.setAccountData({ user_id: bob, type: 'org.example', content: '{"a":3}' })
  const devices = ['ONE', 'TWO\uE000']
  for (const device_id of devices) {
    await main.database
      .sql`insert into devices (user_id, device_id, created_ts) values (${carol}, ${pgText(device_id)}, 0)`
  }
  for (const device_id of ['*', ...devices]) {
    const messages = [{ user_id: carol, device_id, content: { body: '\u0000\u0001' } }]
    const request = { user_id: bob, device_id: 'D' as never, type: 'm.dummy', messages }
    await commands.sendToDevice({ ...request, txn_id: device_id })
  }
  for (const user_id of [alice, bob]) {
    await main.database.sql`insert into devices (user_id, device_id, created_ts) values (${user_id}, 'D', 0)`
    const device_keys = JSON.stringify({ user_id, device_id: 'D', algorithms: [], keys: {}, signatures: {} })
    const one_time_keys = [{ algorithm: 'signed_curve25519', key_id: 'A', key: '{}' }]
    const device_id = 'D' as DeviceId
    await commands.uploadKeys({ user_id, device_id, device_keys, one_time_keys, fallback_keys: [] })
  }
  await commands.renameDevice({ user_id: alice, device_id: 'D' as DeviceId, display_name: 'Kitchen' })
  const claims = [{ user_id: alice, device_id: 'D' as DeviceId, algorithm: 'signed_curve25519' }]
  await commands.claimKeys({ shard: shardOf(alice), claims })
  for (const usage of ['master', 'user_signing'] as const) {
    await commands.uploadCrossSigningKeys(await crossSigning(bob, usage))
  }
  const thread = { user_id: bob, room_id, root_event_id: sent[0]! }
  await commands.subscribeToThread({ ...thread, cause: 1 })
  await commands.subscribeToThread(thread)
  await commands.subscribeToThread({ ...thread, root_event_id: sent[2]! })
  await commands.unsubscribeFromThread(thread)
  await commands.setTyping({ user_id: bob, room_id, typing: true, timeout_ms: 30_000 })
  await commands.setPresence({ user_id: bob, presence: 'online', source: 'client' })
})
afterAll(() => main.drop())

const master = generateSigningKey()

async function crossSigning(user_id: UserId, usage: 'master' | 'user_signing') {
  const public_key = usage === 'master' ? master.publicKeyBase64 : generateSigningKey().publicKeyBase64
  const key = { user_id, usage: [usage], keys: { [`ed25519:${public_key}`]: public_key } }
  const signer = { ...master, keyId: `ed25519:${master.publicKeyBase64}` } as const
  const signed = JSON.stringify(signJson(key, user_id, signer))
  return { user_id, authenticated: true, [usage]: { public_key, key: signed } }
}

describe.each(streamNames)('stream %s', (name) => {
  const definition = streams[name]

  test('its rows survive the wire, cut into whatever parts', () => {
    const rows = rowsOf(name)
    expect(rows.length).toBeGreaterThan(0)
    for (const update of published.get(name) ?? []) {
      for (const { text } of encodeUpdate(name, update)) expect(text).not.toContain('\n')
      const parts = encodeUpdate(name, update).map(({ text }) => parseLogEntry(text))
      expect(parts.map((part) => part?.prev)[0]).toBe(update.prev)
      expect(parts.at(-1)?.position).toBe(update.position)
      expect(parts.flatMap((part): readonly Row[] => part?.rows ?? [])).toEqual(update.rows)
    }
  })

  test('it says how a reader catches up', () => {
    // Streams in memory are read from Redis: `shared/replication/redis-replication.test.ts`.
    if (definition.kept === 'memory') expect(definition.keyOf(rowsOf(name)[0] as never)).not.toBe('')
    else expect(definition.missed).toBeTypeOf('function')
  })

  test('a reader that missed everything, or a part, reads the same from Postgres', async () => {
    if (definition.kept !== 'postgres') return
    const rows = rowsOf(name)
    const last = rows.at(-1)!.position
    const all = await definition.missed(main.database.read, { after: 0, upTo: last }, 1_000)
    expect(v.parse(v.array(definition.row as v.GenericSchema<unknown, Row>), all)).toEqual(all)
    expect(all.map(asStored)).toEqual(latest(name, rows).map(asStored))
    for (let after = 0; after < last; after += 3) {
      const part = await definition.missed(main.database.read, { after, upTo: last }, 1_000)
      expect(part).toEqual(all.filter((row) => row.position > after))
      const [first] = await definition.missed(main.database.read, { after, upTo: last }, 1)
      expect(first).toEqual(part[0])
    }
  })
})

test('invalidations that are kept no more are told as such', async () => {
  const { read, sql } = main.database
  await sql`delete from invalidations where position <= 2`
  await expect(streams.invalidations.missed(read, { after: 0, upTo: 3 }, 10)).rejects.toBeInstanceOf(GapTooOldError)
})

const replacing = new Set<StreamName>([
  'receipts',
  'account_data',
  'device_lists',
  'key_counts',
  'thread_subscriptions',
])

/** Of rows that take each other's place in their table, the last. */
function latest(name: StreamName, rows: readonly Row[]): Row[] {
  if (!replacing.has(name)) return [...rows]
  const byKey = new Map<string, Row>()
  for (const row of rows) {
    const {
      position: _,
      event_id: __,
      event_position: ___,
      ts: ____,
      content: _____,
      subscribed: ______,
      automatic: _______,
      ...key
    } = row as never as Record<string, unknown>
    const text = JSON.stringify(Object.entries(key).toSorted())
    byKey.delete(text)
    byKey.set(text, row)
  }
  return [...byKey.values()]
}

/** What later events change in the table, or what readers do not rely on, left out. */
function asStored(row: Row): unknown {
  if (!('event_nid' in row)) return row
  const { member, content, push, deviations, ...rest } = row
  const redacted = row.event_id === redactedEvent()
  const { joined_members: _, invited_members: __, ...who } = member ?? {}
  return {
    ...rest,
    ...(member ? { member: who } : {}),
    ...(redacted ? withoutRelation(rest) : { content, push, deviations: deviations ?? [] }),
  }
}

function redactedEvent(): string | undefined {
  return rowsOf('events').flatMap((row) => ('redacts' in row && row.redacts ? [row.redacts] : []))[0]
}

function withoutRelation(_: unknown): object {
  return { relates_to: undefined, rel_type: undefined, thread_root: undefined }
}
