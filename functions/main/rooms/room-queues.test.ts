import { describe, expect, test, vi } from 'vitest'
import { fakeClock } from '../../../shared/clock.ts'
import type { RoomId } from '../../../shared/matrix/ids.ts'
import { commandCalls } from '../command-call.ts'
import { createRoomQueues } from './room-queues.ts'

const one = '!one:hs1' as RoomId
const two = '!two:hs1' as RoomId

function setUp(waitingMax = 3) {
  const clock = fakeClock()
  const onStall = vi.fn()
  return { clock, onStall, queues: createRoomQueues({ clock, deadlineMs: 1_000, waitingMax, onStall }) }
}

/** A task that ends when it is told to. */
function held() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { task: () => promise, end: resolve }
}

describe('the queue of a room', () => {
  test('runs one task at a time, in order, and other rooms beside it', async () => {
    const { queues } = setUp()
    const order: string[] = []
    const first = held()
    const a = queues.run(one, 'a', async () => {
      await first.task()
      order.push('a')
    })
    const b = queues.run(one, 'b', async () => void order.push('b'))
    await queues.run(two, 'c', async () => void order.push('c'))
    first.end()
    await Promise.all([a, b])
    expect(order).toEqual(['c', 'a', 'b'])
    expect(queues.active).toBe(0)
  })

  test('beyond its bound it refuses at once, with a time to come back, and takes more when some have ended', async () => {
    const { queues } = setUp(3)
    const first = held()
    const running = [queues.run(one, 'x', first.task), ...[1, 2, 3].map((n) => queues.run(one, 'x', async () => n))]
    await expect(queues.run(one, 'x', async () => 4)).rejects.toMatchObject({
      errcode: 'M_LIMIT_EXCEEDED',
      status: 429,
      extra: { retry_after_ms: 1_000 },
    })
    expect(await queues.run(two, 'x', async () => 'another room')).toBe('another room')
    first.end()
    expect(await Promise.all(running)).toEqual([undefined, 1, 2, 3])
    expect(await queues.run(one, 'x', async () => 5)).toBe(5)
    expect(queues.active).toBe(0)
  })

  test('a task whose caller has stopped waiting is not begun, and holds nobody up', async () => {
    const { queues, clock } = setUp()
    const call = (deadlineTs: number) => ({
      name: 'sendEvent',
      key: 'key',
      repetition: 'recorded' as const,
      isRetry: false,
      deadlineTs,
      secrets: [],
    })
    const first = held()
    const ran: string[] = []
    const a = queues.run(one, 'a', first.task)
    const late = commandCalls.run(call(clock.now() + 100), () => queues.run(one, 'b', async () => void ran.push('b')))
    const patient = commandCalls.run(call(clock.now() + 900), () =>
      queues.run(one, 'c', async () => void ran.push('c')),
    )
    clock.advance(500)
    first.end()
    await expect(late).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE' })
    await Promise.all([a, patient])
    expect(ran).toEqual(['c'])
    expect(queues.active).toBe(0)
  })

  test('a task that holds the room too long is reported, and the next goes on', async () => {
    const { queues, clock, onStall } = setUp()
    const stuck = held()
    const a = queues.run(one, 'stuck', stuck.task)
    const b = queues.run(one, 'next', async () => 'done')
    clock.advance(1_000)
    expect(await b).toBe('done')
    expect(onStall).toHaveBeenCalledExactlyOnceWith({ room_id: one, holder: 'stuck', heldMs: 1_000, waiting: 1 })
    stuck.end()
    await a
    expect(queues.active).toBe(0)
  })
})
