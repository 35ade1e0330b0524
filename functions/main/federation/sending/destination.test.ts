import { describe, expect, test } from 'vitest'
import type { ServerName } from '../../../../shared/matrix/ids.ts'
import { backOffMs } from './back-off.ts'
import { Destination } from './destination.ts'
import type { DestinationRow } from './destinations-table.ts'
import { canonicalEdu, canonicalPdu, transactionBody } from './transaction-body.ts'

const server_name = 'hs2' as ServerName
const at = (position: number) => ({ position, event_nid: position })
const row = (more: Partial<DestinationRow> = {}): DestinationRow => ({
  server_name,
  cursor: 0,
  transaction_id: null,
  transaction_upto: null,
  attempts: 0,
  retry_ts: null,
  has_edus: false,
  ...more,
})

describe('what waits for a server', () => {
  test('is in memory up to what one transaction takes; beyond that only the tables know it', () => {
    const destination = new Destination(server_name)
    destination.read(row())
    for (let i = 1; i <= 50; i++) destination.addEvent(at(i))
    expect(destination.events).toHaveLength(50)
    destination.addEvent(at(51))
    expect(destination).toMatchObject({ events: [], gapUpTo: 51 })
    destination.addEvent(at(52))
    expect(destination).toMatchObject({ events: [at(52)], gapUpTo: 51 })
  })

  test('is not in memory at all while the server does not answer', () => {
    const destination = new Destination(server_name)
    destination.read(row({ attempts: 1 }))
    for (let i = 1; i <= 3; i++) destination.addEvent(at(i))
    destination.pass('key', { id: 1, text: '{}' })
    expect(destination).toMatchObject({ events: [], gapUpTo: 3, passing: new Map() })
  })

  test.each<[string, Partial<DestinationRow>]>([
    ['what it has', { cursor: 5 }],
    ['what is on its way', { transaction_id: 'a', transaction_upto: 5 }],
  ])('is not %s, told of before or after that is known', (_, known) => {
    const destination = new Destination(server_name)
    destination.addEvent(at(5))
    destination.addEvent(at(6))
    destination.read(row(known))
    destination.addEvent(at(5))
    expect(destination.events).toEqual([at(6)])
  })

  test('keeps of what is said in passing the last of each kind', () => {
    const destination = new Destination(server_name)
    for (let i = 0; i < 1_000; i++) destination.pass(`key ${i % 400}`, { id: i, text: `${i}` })
    expect(destination.passing.size).toBe(300)
    expect([...destination.passing.values()].at(-1)).toEqual({ id: 999, text: '999' })
  })
})

test('the next attempt comes later and later, and within the hour', () => {
  const waits = Array.from({ length: 40 }, (_, i) => backOffMs(i + 1, 1))
  expect(waits.slice(0, 4)).toEqual([1_000, 2_000, 4_000, 8_000])
  expect(waits.at(-1)).toBe(3_600_000)
  expect(backOffMs(1, 0)).toBe(800)
})

describe('a transaction is canonical JSON', () => {
  test.each([
    ['the usual event', '{"auth_events":["$a","$b"],"depth":1,"type":"m.x"}', '{"b":1}'],
    ['without auth events', '{"auth_events":[],"depth":1}', '{}'],
    ['auth events with hashes', '{"auth_events":[["$a",{"sha256":"x"}]],"depth":1}', '{}'],
    ['a key between', '{"auth_events":["$a"],"beyond":1,"depth":1}', '{"x":"y"}'],
    ['what looks like an end in an id', '{"auth_events":["$a],\\"depth\\":1"],"depth":2}', '{}'],
  ])('of %s', (_, envelope, content) => {
    const keys = [...Object.entries(JSON.parse(envelope) as object), ['content', JSON.parse(content)] as const]
    const expected = JSON.stringify(Object.fromEntries(keys.toSorted(([a], [b]) => (a < b ? -1 : 1))))
    expect(canonicalPdu(envelope, content)).toBe(expected)
  })

  test('with what is said in passing', () => {
    const edus = [canonicalEdu('m.typing', '{ "b": 1, "a": 2 }') ?? '']
    expect(transactionBody({ origin: 'hs1', origin_server_ts: 5, pdus: ['{"x":1}'], edus })).toBe(
      '{"edus":[{"content":{"a":2,"b":1},"edu_type":"m.typing"}],"origin":"hs1","origin_server_ts":5,"pdus":[{"x":1}]}',
    )
    expect(canonicalEdu('m.typing', 'no JSON')).toBeUndefined()
  })
})
