import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { canonicalPhone } from './phone-number.ts'
import { canonicalEmail, canonicalMsisdn } from './threepid.ts'

describe('appendices/#e-mail', () => {
  test.each([
    ['Strauß@Example.com', 'strauss@example.com'],
    [' bob@Example.COM ', 'bob@example.com'],
    ['ΣΊΣΥΦΟΣ@x.gr', 'σίσυφοσ@x.gr'],
    ['σίσυφος@x.gr', 'σίσυφοσ@x.gr'],
    ['cafe\u0301@x.fr', 'café@x.fr'],
    ['a+b.c_d-e@sub.x.example', 'a+b.c_d-e@sub.x.example'],
    ['user@[127.0.0.1]', undefined],
    ['a@b@c', undefined],
    ['@b', undefined],
    ['a@', undefined],
    ['a b@c', undefined],
    ['Bob <bob@x>', undefined],
    ['a,b@x', undefined],
    ['a\n@x', undefined],
    ['a\u0000@x', undefined],
    ['a\u202e@x', undefined],
    ['\ud800@x', undefined],
    [`${'a'.repeat(252)}@x`, `${'a'.repeat(252)}@x`],
    [`${'a'.repeat(253)}@x`, undefined],
    // It grows when it is folded.
    [`${'ß'.repeat(150)}@x`, undefined],
  ])('%j → %j', (typed, canonical) => expect(canonicalEmail(typed)).toBe(canonical))

  test('what is canonical stays so, and capitals change nothing', () =>
    fc.assert(
      fc.property(fc.emailAddress(), fc.string({ unit: 'grapheme' }), (address, text) => {
        for (const typed of [address, `${text}@x`, `x@${text}`]) {
          const canonical = canonicalEmail(typed)
          if (canonical === undefined) continue
          expect(canonicalEmail(canonical)).toBe(canonical)
          expect(canonicalEmail(typed.toUpperCase()) ?? canonical).toBe(canonical)
        }
      }),
    ))
})

describe('appendices/#pstn-phone-numbers', () => {
  test.each([
    ['GB', '07700 900001', '447700900001'],
    ['gb', '(07700) 900-001', '447700900001'],
    ['DE', '0170/1234567', '491701234567'],
    ['US', '(201) 555-0123', '12015550123'],
    ['US', '1 201 555 0123', '12015550123'],
    ['US', '011 44 7700 900001', '447700900001'],
    // A leading zero is part of an Italian number.
    ['IT', '06 1234 5678', '390612345678'],
    ['CI', '0123456789', '2250123456789'],
    ['RU', '8 912 345-67-89', '79123456789'],
    ['HU', '06 20 123 4567', '36201234567'],
    ['NO', '40 61 23 45', '4740612345'],
    ['FR', '+44 7700 900001', '447700900001'],
    ['FR', '0044 7700 900001', '447700900001'],
    ['XX', '07700900001', undefined],
    ['', '07700900001', undefined],
    ['GB', '', undefined],
    ['GB', 'call me', undefined],
    ['GB', '07700+900001', undefined],
    ['GB', '07', undefined],
    ['GB', '0770090000112345', undefined],
    ['GB', '+0770090000', undefined],
    ['GB', '1'.repeat(100), undefined],
  ])('%s %j → %j', (country, typed, canonical) => expect(canonicalPhone(country, typed)).toBe(canonical))

  test('what is canonical is a number from every country, after a plus', () => {
    expect(canonicalMsisdn('447700900001')).toBe('447700900001')
    expect(canonicalMsisdn('0447700900001')).toBeUndefined()
    for (const country of ['GB', 'US', 'IT', 'JP'])
      expect(canonicalPhone(country, '+447700900001')).toBe('447700900001')
  })
})
