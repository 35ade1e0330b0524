/** matrix-js-sdk's sliding sync. https://github.com/matrix-org/matrix-spec-proposals/pull/4186 */
import { type MSC3575List, SlidingSync } from 'matrix-js-sdk/lib/sliding-sync.js'
import type { Client } from './sdk-client.ts'

const timeoutMs = 10_000
export const allState = [['*', '*']]

/** Of these lists; by default one of all rooms with all their state. To be given to `startClient`. */
export function slidingSync(
  client: Client,
  lists: Record<string, MSC3575List> = {
    all: { ranges: [[0, 99]], timeline_limit: 20, required_state: allState },
  },
): SlidingSync {
  const subscription = { timeline_limit: 20, required_state: allState }
  return new SlidingSync(client.baseUrl, new Map(Object.entries(lists)), subscription, client, timeoutMs)
}
