import { expect, test } from 'vitest'
import { fakeClock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { createOutageGuard, outageGraceMs } from './outage-guard.ts'

test('while the database is away, callers hear so when they have waited long enough, oldest first', async () => {
  const clock = fakeClock()
  const guard = createOutageGuard(clock)
  const never = new Promise<never>(() => {})
  const first = guard.wait(() => never)
  clock.advance(1_000)
  const second = guard.wait(() => never)
  guard.away()
  expect(guard.waiting).toBe(2)
  clock.advance(outageGraceMs - 1_000)
  guard.away()
  await expect(first).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE', extra: { retry_after_ms: 2_000 } })
  clock.advance(1_000)
  guard.away()
  await expect(second).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE' })
})

test('beyond the bound commands are refused at once, and not begun', async () => {
  const guard = createOutageGuard(fakeClock(), 2)
  const { promise, resolve } = Promise.withResolvers<object>()
  let begun = 0
  const commands = guard.guard({
    deviceSeen: () => {
      begun++
      return promise
    },
  } as unknown as MainClient)
  const request = {} as Parameters<MainClient['deviceSeen']>[0]
  const held = [commands.deviceSeen(request), commands.deviceSeen(request)]
  await expect(commands.deviceSeen(request)).rejects.toMatchObject({
    errcode: 'M_UNAVAILABLE',
    status: 503,
    extra: { retry_after_ms: 1_000 },
  })
  expect(begun).toBe(2)
  resolve({})
  await Promise.all(held)
  expect(guard.waiting).toBe(0)
  expect(await commands.deviceSeen(request)).toEqual({})
})
