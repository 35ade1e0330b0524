import * as v from 'valibot'
import { describe, expect, test } from 'vitest'
import type { JsonObject } from '../matrix/json-value.ts'
import {
  compileEventFields,
  compileEventFilter,
  compileRoomFilter,
  Filter,
  type FilterableEvent,
  type RoomEventFilter,
} from './filter.ts'

const event: FilterableEvent = {
  type: 'm.room.message',
  sender: '@alice:a',
  room_id: '!r:a',
  content: '{"body":"x","url":"mxc://a/b"}',
}

describe('client-server-api/#filtering', () => {
  test.each<[RoomEventFilter, boolean]>([
    [{}, true],
    [{ types: ['m.room.message'] }, true],
    [{ types: ['m.room.*'] }, true],
    [{ types: ['m.*.message'] }, true],
    [{ types: ['*'] }, true],
    [{ types: ['m.room.messag?'] }, false],
    [{ types: ['m.room.message', '?*'] }, true],
    [{ types: ['?*'] }, false],
    [{ types: [] }, false],
    [{ types: ['m.room.name'] }, false],
    [{ not_types: ['m.room.message'] }, false],
    [{ not_types: ['*'] }, false],
    [{ not_types: ['m.room.n*'] }, true],
    [{ not_types: [] }, true],
    [{ types: ['m.room.message'], not_types: ['m.room.*'] }, false],
    [{ senders: ['@alice:a'] }, true],
    [{ senders: ['@bob:a'] }, false],
    [{ senders: ['@alice:a'], not_senders: ['@alice:a'] }, false],
    [{ rooms: ['!r:a'] }, true],
    [{ rooms: ['!s:a'] }, false],
    [{ not_rooms: ['!r:a'] }, false],
    [{ contains_url: true }, true],
    [{ contains_url: false }, false],
  ])('%j: %j', (filter, expected) => {
    const compiled = compileEventFilter(filter)
    expect(compiled.matches(event)).toBe(expected)
    if (compiled.passesAll) expect(expected).toBe(true)
    if (compiled.passesNone) expect(expected).toBe(false)
  })

  test.each([
    ['{"body":"no \\"url\\" here"}', false],
    ['{"in":{"url":"x"}}', false],
    ['{"url":1}', false],
    ['{"url":""}', true],
  ])('contains_url on %s: %j', (content, expected) =>
    expect(compileEventFilter({ contains_url: true }).matches({ ...event, content })).toBe(expected),
  )

  test('what has no sender or room is not held back by lists of them', () =>
    expect(compileEventFilter({ senders: ['@a:a'], rooms: ['!a:a'] }).matches({ type: 'm.tag' })).toBe(true))

  test('nothing to check is known beforehand', () => {
    expect(compileEventFilter(undefined).passesAll).toBe(true)
    expect(compileEventFilter({ limit: 3, types: ['*'] }).passesAll).toBe(true)
    expect(compileEventFilter({ not_types: ['*'] }).passesNone).toBe(true)
  })

  test.each([
    [undefined, true],
    [{}, true],
    [{ rooms: ['!r:a'] }, true],
    [{ rooms: [] }, false],
    [{ not_rooms: ['!r:a'] }, false],
  ])('rooms %j: %j', (filter, expected) => expect(compileRoomFilter(filter)('!r:a')).toBe(expected))

  test.each<[string[], JsonObject]>([
    [['type'], { type: 'm.x' }],
    [['content.body', 'content.absent'], { content: { body: 'x' } }],
    [['content.m\\.relates_to.event_id'], { content: { 'm.relates_to': { event_id: '$1' } } }],
    [['content', 'content.body'], { content: { body: 'x', 'm.relates_to': { event_id: '$1', n: 1 } } }],
    [['content.body.deeper', 'nothing'], {}],
    [['__proto__', 'constructor'], {}],
    [[], {}],
  ])('event_fields %j', (fields, expected) => {
    const whole = { type: 'm.x', content: { body: 'x', 'm.relates_to': { event_id: '$1', n: 1 } } }
    expect(compileEventFields(fields)?.(whole)).toEqual(expected)
  })

  test('no event_fields, no change', () => expect(compileEventFields(undefined)).toBeNull())

  test.each<[object, boolean]>([
    [{}, true],
    [{ room: { timeline: { limit: 10, lazy_load_members: true }, 'org.x': 1 }, presence: { not_types: ['*'] } }, true],
    [{ room: { timeline: { limit: -1 } } }, false],
    [{ room: { timeline: { limit: 1.5 } } }, false],
    [{ room: { rooms: ['not a room'] } }, false],
    [{ presence: { senders: ['alice'] } }, false],
    [{ event_format: 'xml' }, false],
    [{ event_fields: 'type' }, false],
    [{ account_data: { types: Array.from({ length: 1001 }, () => 'x') } }, false],
  ])('schema: %j', (filter, valid) => expect(v.is(Filter, filter)).toBe(valid))
})
