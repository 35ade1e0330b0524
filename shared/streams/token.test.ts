import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type StreamPositions, streamNames } from './registry.ts'
import {
  encodePaginationToken,
  encodeSyncToken,
  encodeThreadsToken,
  parsePaginationToken,
  parseSyncToken,
  parseThreadsToken,
  tokenOrder,
} from './token.ts'

const position = fc.nat({ max: Number.MAX_SAFE_INTEGER })
const positions = fc.record(
  Object.fromEntries(tokenOrder.map((name) => [name, position])),
) as unknown as fc.Arbitrary<StreamPositions>

describe('tokens', () => {
  test('every stream is in the sync token', () => {
    expect(tokenOrder.toSorted()).toEqual(streamNames.toSorted())
  })
  test('what was encoded is parsed', () =>
    fc.assert(
      fc.property(positions, (at) => {
        expect(parseSyncToken(encodeSyncToken(at))).toEqual(at)
        expect(parsePaginationToken(encodeSyncToken(at))).toBe(at.events)
        expect(parsePaginationToken(encodePaginationToken(at.events))).toBe(at.events)
      }),
    ))
  test('one from before the streams of keys and messages tells of them from the beginning', () => {
    expect(parseSyncToken('s1_1_2_3_4_5_6')).toMatchObject({
      events: 1,
      invalidations: 6,
      device_lists: 0,
      key_counts: 0,
      to_device: 0,
      thread_subscriptions: 0,
    })
    expect(parseSyncToken('s2_1_2_3_4_5_6_7_8_9')).toMatchObject({ events: 1, to_device: 9, thread_subscriptions: 0 })
  })
  test('a place among thread subscriptions is named by a token of its own, or by a position of sliding sync', () => {
    expect(parseThreadsToken(encodeThreadsToken(7), 'to')).toBe(7)
    expect(parseThreadsToken(`x1.${'a'.repeat(8)}.${'b'.repeat(16)}.s3_1_2_3_4_5_6_7_8_9_10`, 'to')).toBe(10)
    for (const token of ['', '7', 't1_', 't2_7', 's3_1_2_3_4_5_6_7_8_9_10', `x1.${'a'.repeat(8)}.b.s3_1`]) {
      expect(() => parseThreadsToken(token, 'to')).toThrow(expect.objectContaining({ errcode: 'M_INVALID_PARAM' }))
    }
  })
  test.each([
    '',
    's1',
    's1_1_2_3_4_5',
    's1_1_2_3_4_5_6_7',
    's1_1_2_3_4_5_6_7_8',
    's2_1_2_3_4_5_6_7_8_9_10',
    's3_1_2_3_4_5_6_7_8_9',
    's3_1_2_3_4_5_6_7_8_9_10_11',
    's4_1_2_3_4_5_6_7_8_9_10',
    's2_1_2_3_4_5_6',
    's2_1_2_3_4_5_6_7_8',
    's1_-1_2_3_4_5_6',
    's1_1_2_3_4_5_9999999999999999',
    's1_1_2_3_4_5_6\n',
    'p1_1',
  ])('%j is no sync token', (token) =>
    expect(() => parseSyncToken(token)).toThrow(expect.objectContaining({ errcode: 'M_INVALID_PARAM', status: 400 })),
  )
  test.each(['p1_', 'p1_x', 't1_4', 'p1_9007199254740993'])('%j is no pagination token', (token) =>
    expect(() => parsePaginationToken(token)).toThrow(expect.objectContaining({ errcode: 'M_INVALID_PARAM' })),
  )
})
