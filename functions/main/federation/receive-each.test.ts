import { describe, expect, test } from 'vitest'
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { Receipt } from '../rooms/receive-events.ts'
import { receiveEach } from './receive-each.ts'

const event = (event_id: string) => ({ pdu: { event_id } }) as unknown as StoredEvent
const events = ['$a', '$fault', '$b'].map(event)
const idOf = (one: StoredEvent) => one.pdu.event_id as string

/** Takes all but `$fault`, with which it throws. */
function receiving(error: unknown) {
  const taken: string[] = []
  return {
    taken,
    async receive(some: readonly StoredEvent[]): Promise<Receipt[]> {
      if (some.map(idOf).includes('$fault')) throw error
      taken.push(...some.map(idOf))
      return some.map(() => ({ outcome: 'accepted' }))
    },
  }
}

test('one event that can not be taken keeps no other back', async () => {
  const { taken, receive } = receiving(new TypeError('a fault of ours'))
  const faults: string[] = []
  const receipts = await receiveEach(events, receive, (one) => faults.push(idOf(one)))
  expect(taken).toEqual(['$a', '$b'])
  expect(faults).toEqual(['$fault'])
  expect(receipts.map(({ outcome }) => outcome)).toEqual(['accepted', 'rejected', 'accepted'])
})

describe('what passes is nobody’s fault, and drops nothing', () => {
  test.each([
    ['too much at once', new MatrixError('M_UNAVAILABLE', 'later')],
    ['the database is away', Object.assign(new Error('refused'), { code: 'ECONNREFUSED' })],
  ])('%s', async (_, error) => {
    const faults: string[] = []
    await expect(receiveEach(events, receiving(error).receive, (one) => faults.push(idOf(one)))).rejects.toBe(error)
    expect(faults).toEqual([])
  })
})
