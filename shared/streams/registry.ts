/** The whole list of streams; transports, sync token and tests are derived from it. */
import { accountData } from './account-data.ts'
import type { StreamDefinition, StreamPosition } from './define.ts'
import { deviceLists } from './device-lists.ts'
import { events } from './events.ts'
import { invalidations } from './invalidations.ts'
import { keyCounts } from './key-counts.ts'
import { presence } from './presence.ts'
import { receipts } from './receipts.ts'
import { threadSubscriptions } from './thread-subscriptions.ts'
import { toDevice } from './to-device.ts'
import { typing } from './typing.ts'

export const streams = {
  events,
  receipts,
  account_data: accountData,
  typing,
  presence,
  invalidations,
  device_lists: deviceLists,
  key_counts: keyCounts,
  to_device: toDevice,
  thread_subscriptions: threadSubscriptions,
} as const
export type StreamName = keyof typeof streams
export type RowOf<S extends StreamName> = (typeof streams)[S] extends StreamDefinition<string, infer Row> ? Row : never
export type StreamPositions = { readonly [S in StreamName]: StreamPosition }
export const streamNames = Object.keys(streams) as StreamName[]
