import { describe, expect, test } from 'vitest'
import type { EventId, RoomId, UserId } from '../matrix/ids.ts'
import type { StreamPosition } from '../streams/define.ts'
import { type ClientEventOptions, clientEventJson, eventBody, strippedStateJson } from './client-json.ts'
import type { TimelineEvent } from './timeline-event.ts'

const alice = '@alice:example.org' as UserId
const bob = '@bob:example.org' as UserId

const message: TimelineEvent = {
  position: 7 as StreamPosition,
  event_nid: 70,
  event_id: '$message' as EventId,
  room_nid: 1,
  room_id: '!room:example.org' as RoomId,
  type: 'm.room.message',
  sender: alice,
  origin_server_ts: 1000,
  content: '{"body":"1.0 stays \\u0031.0","n":1.50}',
  push: 0,
}
const options: ClientEventOptions = { now: 1500, roomId: true }

function json(event: Partial<TimelineEvent>, over: Partial<ClientEventOptions> = {}, viewer: string = alice) {
  return JSON.parse(
    clientEventJson({ ...message, ...event }, { user_id: viewer, device_id: 'D' }, { ...options, ...over }),
  )
}

describe('client-server-api room event format', () => {
  test('the content is copied, not written again', () => {
    expect(clientEventJson(message, { user_id: bob }, options)).toContain(`"content":${message.content},`)
  })

  test('the whole event', () => {
    expect(json({})).toEqual({
      content: { body: '1.0 stays 1.0', n: 1.5 },
      event_id: '$message',
      origin_server_ts: 1000,
      room_id: '!room:example.org',
      sender: alice,
      type: 'm.room.message',
      unsigned: { age: 500 },
    })
  })

  test('no room_id where the answer names the room elsewhere', () => {
    expect(json({ redacted_because: eventBody(message) }, { roomId: false })).not.toHaveProperty('room_id')
    expect(
      json({ redacted_because: eventBody(message) }, { roomId: false }).unsigned.redacted_because,
    ).not.toHaveProperty('room_id')
  })

  test('an empty state key is there, and control characters are escaped', () => {
    expect(json({ state_key: '' }).state_key).toBe('')
    expect(json({ state_key: 'a"\0\n', type: '\u2028"' })).toMatchObject({ state_key: 'a"\0\n', type: '\u2028"' })
  })

  test.each([
    { why: 'same user and device', viewer: alice, device: 'D', shown: true },
    { why: 'another device', viewer: alice, device: 'E', shown: false },
    { why: 'another user with a device of that name', viewer: bob, device: 'D', shown: false },
  ])('unsigned.transaction_id: $why', ({ viewer, device, shown }) => {
    expect(json({ txn_id: 't"1', device_id: device }, {}, viewer).unsigned.transaction_id).toBe(
      shown ? 't"1' : undefined,
    )
  })

  test('unsigned of a state event that replaced another', () => {
    const replaces = { event_id: '$old' as EventId, sender: bob, content: '{"name":"old"}' }
    expect(json({ state_key: '', replaces }).unsigned).toEqual({
      age: 500,
      prev_content: { name: 'old' },
      prev_sender: bob,
      replaces_state: '$old',
    })
  })

  test('unsigned.redacted_because, membership and m.relations', () => {
    const redaction = {
      ...message,
      type: 'm.room.redaction',
      event_id: '$r' as EventId,
      redacts: '$message' as EventId,
    }
    const event = json(
      { content: '{}', redacted_because: eventBody(redaction) },
      { membership: 'leave', relations: '{"m.reference":{"chunk":[]}}' },
    )
    expect(event.unsigned).toMatchObject({
      membership: 'leave',
      'm.relations': { 'm.reference': { chunk: [] } },
      redacted_because: { event_id: '$r', redacts: '$message', type: 'm.room.redaction', room_id: '!room:example.org' },
    })
  })
})

describe('rooms/v11 the redacts property is found in both places', () => {
  test.each([
    { why: 'version 11 and later', content: '{"redacts":"$x","reason":"spam"}' },
    { why: 'earlier versions', content: '{"reason":"spam"}' },
    { why: 'earlier versions, empty content', content: '{}' },
    { why: 'the word in the reason', content: '{"reason":"\\"redacts\\""}' },
  ])('$why', ({ content }) => {
    const event = json({ type: 'm.room.redaction', redacts: '$x' as EventId, content })
    expect(event.redacts).toBe('$x')
    expect(event.content).toEqual({ ...JSON.parse(content), redacts: '$x' })
  })
})

test('client-server-api stripped state has four keys', () => {
  expect(JSON.parse(strippedStateJson({ content: '{"a":1}', sender: bob, state_key: '', type: 't' }))).toEqual({
    content: { a: 1 },
    sender: bob,
    state_key: '',
    type: 't',
  })
})
