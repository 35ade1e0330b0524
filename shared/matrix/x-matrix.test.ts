import { verify } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { signingKeyFromSeed, signText, verifyText } from './signatures.ts'
import { formatXMatrix, parseXMatrix, signedRequestText } from './x-matrix.ts'

const whole = { origin: 'a.example:8449', destination: 'b.example', key: 'ed25519:k_1', sig: 'AbC+/9' }

describe('server-server-api/#request-authentication', () => {
  test.each([
    [
      'as senders write it',
      'X-Matrix origin="a.example:8449",destination="b.example",key="ed25519:k_1",sig="AbC+/9"',
      whole,
    ],
    [
      'any case of names and scheme',
      'x-MATRIX Origin="a.example:8449",DESTINATION="b.example",Key="ed25519:k_1",SIG="AbC+/9"',
      whole,
    ],
    [
      'space around commas',
      'X-Matrix   origin="a.example:8449" , destination="b.example"\t,key="ed25519:k_1",sig="AbC+/9"',
      whole,
    ],
    ['any order', 'X-Matrix sig="AbC+/9",key="ed25519:k_1",destination="b.example",origin="a.example:8449"', whole],
    [
      'colons without quotes',
      'X-Matrix origin=a.example:8449,destination=b.example,key=ed25519:k_1,sig="AbC+/9"',
      whole,
    ],
    [
      'characters behind backslashes',
      'X-Matrix origin="a\\.example:8449",destination="b.example",key="ed25519\\:k_1",sig="AbC+/9"',
      whole,
    ],
    [
      'further parameters',
      'X-Matrix origin="a.example:8449",x="y, z=1",destination="b.example",key="ed25519:k_1",sig="AbC+/9"',
      whole,
    ],
    [
      'no destination',
      'X-Matrix origin="a.example:8449",key="ed25519:k_1",sig="AbC+/9"',
      { ...whole, destination: undefined },
    ],
  ])('reads %s', (_, header, expected) => expect(parseXMatrix(header)).toEqual(expected))

  test.each([
    ['another scheme', 'Bearer abc'],
    ['nothing', ''],
    ['no parameters', 'X-Matrix '],
    ['no signature', 'X-Matrix origin="a",destination="b",key="ed25519:1"'],
    ['an empty origin', 'X-Matrix origin="",destination="b",key="ed25519:1",sig="x"'],
    ['an origin twice', 'X-Matrix origin="a",origin="c",destination="b",key="ed25519:1",sig="x"'],
    ['an open quote', 'X-Matrix origin="a,destination="b",key="ed25519:1",sig="x'],
    ['a bare word', 'X-Matrix origin,destination="b",key="ed25519:1",sig="x"'],
    ['base64 without quotes', 'X-Matrix origin=a,destination=b,key=ed25519:1,sig=x/y'],
    ['too much', `X-Matrix origin="${'a'.repeat(3_000)}",key="ed25519:1",sig="x"`],
  ])('does not read %s', (_, header) => expect(parseXMatrix(header)).toBeUndefined())

  test('reads what it writes', () =>
    fc.assert(
      fc.property(
        fc.record({
          origin: fc.stringMatching(/^[a-z0-9.:-]{1,50}$/),
          destination: fc.stringMatching(/^[a-z0-9.:-]{1,50}$/),
          key: fc.stringMatching(/^ed25519:[A-Za-z0-9_]{1,20}$/),
          sig: fc.stringMatching(/^[A-Za-z0-9+/]{1,86}$/),
        }),
        (header) => {
          expect(parseXMatrix(formatXMatrix(header))).toEqual(header)
        },
      ),
    ))

  test('signs method, target, both servers and the body, by canonical JSON', () => {
    const request = { method: 'PUT', uri: '/_matrix/federation/v1/send/1?a=%20b', origin: 'a', destination: 'b' }
    expect(signedRequestText({ ...request, content: { pdus: [], a: 1 } })).toBe(
      '{"content":{"a":1,"pdus":[]},"destination":"b","method":"PUT","origin":"a","uri":"/_matrix/federation/v1/send/1?a=%20b"}',
    )
    const text = signedRequestText({ ...request, content: undefined })
    expect(text).toBe('{"destination":"b","method":"PUT","origin":"a","uri":"/_matrix/federation/v1/send/1?a=%20b"}')
    const key = signingKeyFromSeed('1', Buffer.alloc(32, 7))
    if (!key) throw new Error('no key')
    const signature = signText(text, key)
    expect(verify(null, Buffer.from(text), key.privateKey, Buffer.from(signature, 'base64'))).toBe(true)
    expect(verifyText(signedRequestText({ ...request, content: {} }), signature, key.privateKey)).toBe(false)
  })
})
