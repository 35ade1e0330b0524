import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type StreamPositions, streamNames } from './registry.ts'
import { encodePaginationToken, encodeSyncToken, parsePaginationToken, parseSyncToken, tokenOrder } from './token.ts'

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
    })
  })
  test.each([
    '',
    's1',
    's1_1_2_3_4_5',
    's1_1_2_3_4_5_6_7',
    's1_1_2_3_4_5_6_7_8',
    's2_1_2_3_4_5_6_7_8_9_10',
    's3_1_2_3_4_5_6_7_8_9',
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
