/** Messages to devices, as sync hands them out: in order, and each until the client comes back with the token that came with
 *  it, which acknowledges it. https://spec.matrix.org/v1.19/client-server-api/#send-to-device-messaging */
import type { RequestOf } from '../../shared/commands/define.ts'
import type { toDeviceCommands } from '../../shared/commands/to-device.ts'
import type { DeviceId } from '../../shared/matrix/ids.ts'
import {
  type Inbox,
  type InboxEnds,
  messagesPerAnswer,
  readInbox,
  toDeviceJson,
} from '../../shared/storage/to-device.ts'
import type { StreamPosition } from '../../shared/streams/define.ts'
import type { ToDeviceRow } from '../../shared/streams/to-device.ts'
import type { AnswerContext } from './answer.ts'
import type { SyncDeps } from './deps.ts'
import type { LiveUser } from './live-user.ts'
import type { Plan } from './plan.ts'
import { type Soon, soon } from './soon.ts'

/** Has main delete what a device has. */
export type AcknowledgeToDevice = (request: RequestOf<typeof toDeviceCommands.acknowledgeToDevice>) => Promise<unknown>

/** Main answers within milliseconds, or is away: then the answer goes out, and the next request acknowledges. */
const acknowledgeMs = 1_000

/** Where a device's inbox stands, by all that was heard of. */
interface Place {
  /** Of the last message that came. */
  last: number
  /** All up to here are acknowledged, or never were. */
  acknowledged: number
}

/** The inboxes of one user's devices; those that never had a message are not here. */
export class Inboxes {
  private readonly places = new Map<DeviceId, Place>()

  load(ends: readonly InboxEnds[]): void {
    for (const { device_id, first, last } of ends) this.places.set(device_id, { last, acknowledged: first - 1 })
  }

  add({ device_id, position }: ToDeviceRow): void {
    const place = this.places.get(device_id)
    if (!place) this.places.set(device_id, { last: position, acknowledged: position - 1 })
    else if (position > place.last) {
      if (place.acknowledged >= place.last) place.acknowledged = position - 1
      place.last = position
    }
  }

  /** Whether there may be a message after this position. */
  hasAfter(device_id: DeviceId, position: number): boolean {
    return (this.places.get(device_id)?.last ?? 0) > position
  }

  /** Whether there may be a message up to this position that main has not been told of. */
  mayAcknowledge(device_id: DeviceId, upTo: number): boolean {
    const place = this.places.get(device_id)
    return place !== undefined && Math.min(upTo, place.last) > place.acknowledged
  }

  acknowledged(device_id: DeviceId, upTo: number): void {
    const place = this.places.get(device_id)
    if (place && upTo > place.acknowledged) place.acknowledged = upTo
  }
}

/** A client that comes back with a token has what came with it. Resolves when main has deleted that, or is away; undefined
 *  where there is nothing to delete. */
export function acknowledge(
  { acknowledgeToDevice, clock, onError }: SyncDeps,
  { user_id, inboxes }: LiveUser,
  device_id: DeviceId,
  up_to: StreamPosition,
): Promise<void> | undefined {
  if (!acknowledgeToDevice || !inboxes.mayAcknowledge(device_id, up_to)) return undefined
  return new Promise((resolve) => {
    const cancel = clock.after(acknowledgeMs, resolve)
    acknowledgeToDevice({ user_id, device_id, up_to })
      .then(() => inboxes.acknowledged(device_id, up_to), onError)
      .finally(() => {
        cancel()
        resolve()
      })
  })
}

export interface InboxPart {
  /** `,"to_device":{…}`, or '' where there is none. */
  readonly json: string
  /** Where the stream stands for a client that has this. */
  readonly upTo: StreamPosition
}

/** What came for the device after the plan's `since`, as much of it as one answer holds. */
export function inboxPart(context: AnswerContext, { since, upTo }: Plan): Soon<InboxPart> {
  const range = { after: since?.to_device ?? 0, upTo: upTo.to_device, limit: messagesPerAnswer }
  return soon(readMessages(context, range), ({ messages, upTo }) =>
    messages.length === 0
      ? { json: '', upTo }
      : { json: `,"to_device":{"events":[${messages.map(toDeviceJson).join(',')}]}`, upTo },
  )
}

/** The device's messages at positions in (after, upTo], `limit` at most. */
export function readMessages(
  { sql, user: { user_id, inboxes }, device_id }: AnswerContext,
  range: { readonly after: number; readonly upTo: StreamPosition; readonly limit: number },
): Soon<Inbox> {
  if (!inboxes.hasAfter(device_id, range.after)) return { messages: [], upTo: range.upTo }
  return readInbox(sql, { user_id, device_id }, range)
}
