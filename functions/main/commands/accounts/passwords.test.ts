import { hash } from '@node-rs/bcrypt'
import { expect, test } from 'vitest'
import { createPasswords } from './passwords.ts'

const passwords = createPasswords({ rounds: 4 })

test.each(['superuser', 'übers3kr1t', 'with\0nul', 'p'.repeat(72), 'p'.repeat(73), '🐈'.repeat(200)])(
  '%j matches itself and nothing near it',
  async (password) => {
    const stored = await passwords.hash(password)
    expect(await passwords.matches(password, stored)).toBe(true)
    expect(await passwords.matches(`${password}x`, stored)).toBe(false)
    expect(await passwords.matches(password.slice(0, -1), stored)).toBe(false)
  },
)
test('one password typed in two normal forms is one', async () => {
  expect(await passwords.matches('u\u0308ber', await passwords.hash('\u00fcber'))).toBe(true)
})
test('a plain bcrypt hash of another server verifies', async () => {
  expect(await passwords.matches('superuser', await hash('superuser', { cost: 4 }))).toBe(true)
})
test.each([null, undefined, '', 'no hash', 'sha256:'])('stored %j matches nothing', async (stored) => {
  expect(await passwords.matches('superuser', stored)).toBe(false)
})
test('a password beyond any length is refused', async () => {
  await expect(passwords.hash('x'.repeat(513))).rejects.toMatchObject({ errcode: 'M_INVALID_PARAM' })
  expect(await passwords.matches('x'.repeat(513), await passwords.hash('x'.repeat(512)))).toBe(false)
})
test('who would wait for too many others is told to come back', async () => {
  const results = await Promise.allSettled(Array.from({ length: 150 }, () => passwords.hash('superuser')))
  const refused = results.filter((result) => result.status === 'rejected')
  expect(refused.length).toBeGreaterThan(0)
  expect(refused[0]).toMatchObject({ reason: { errcode: 'M_LIMIT_EXCEEDED' } })
})
