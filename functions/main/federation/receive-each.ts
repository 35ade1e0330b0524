/** Events of other servers, one of which may be more than this server can take: it is left out, and keeps no other back. */
import type { StoredEvent } from '../../../shared/matrix/event-format.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { isDatabaseAway } from '../../../shared/storage/database-away.ts'
import type { Receipt } from '../rooms/receive-events.ts'

/** Whether it is not the events that are at fault: the same ones may well be taken later, or by another main. */
export function isPassing(error: unknown): boolean {
  return error instanceof MatrixError || isDatabaseAway(error)
}

/** Receives all of them together; where that fails for none of the passing reasons, one after the other. `onFault` hears of each
 *  that could not be taken, which counts as rejected and is not stored. */
export async function receiveEach(
  events: readonly StoredEvent[],
  receive: (events: readonly StoredEvent[]) => Promise<Receipt[]>,
  onFault: (event: StoredEvent, error: unknown) => void,
): Promise<Receipt[]> {
  try {
    return await receive(events)
  } catch (error) {
    if (isPassing(error)) throw error
    const [only] = events
    if (only && events.length === 1) {
      onFault(only, error)
      return [{ outcome: 'rejected', reason: 'it could not be taken' }]
    }
  }
  const receipts: Receipt[] = []
  for (const event of events) receipts.push(...(await receiveEach([event], receive, onFault)))
  return receipts
}
