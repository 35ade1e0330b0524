/** Which of our own events other servers are to have. Which servers these are, table room_servers tells. */
import * as v from 'valibot'
import { ServerName, serverNameOf } from '../../../shared/matrix/ids.ts'
import { stateMapKey } from '../persist/state-types.ts'
import type { EventWrite, Writes } from '../persist/writes.ts'
import type { Room } from './room.ts'

/** Of a room as it is before the event. undefined: nobody else is concerned. */
export function concernsOthers(
  room: Room,
  { type, state_key }: { readonly type: string; readonly state_key?: string | undefined },
  own: ServerName,
): EventWrite['outbound'] {
  const isShared = room.summary.joined_members > room.local_members.size
  if (type === 'm.room.member' && state_key !== undefined) {
    const server = serverNameOf(state_key)
    const before = room.state.get(stateMapKey(type, state_key))?.membership
    // It may be in the room with nobody: that its user is invited no more, it hears from here alone.
    if ((before === 'invite' || before === 'knock') && server !== own && v.is(ServerName, server)) return { to: server }
  }
  return isShared ? {} : undefined
}

/** The same writes, with the events going out. */
export function outboundWrites(writes: Writes, outbound: EventWrite['outbound']): Writes {
  if (!outbound) return writes
  const events = (writes.events ?? []).map((event) => ({
    ...event,
    outbound,
    row: { ...event.row, outbound: true as const },
  }))
  return { ...writes, events }
}
