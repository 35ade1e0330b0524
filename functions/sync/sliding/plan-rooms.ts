/** What has to be told of each selected room: everything, what happened since it was told last, or nothing.
 *  https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#room-results */
import type { StreamPositions } from '../../../shared/streams/registry.ts'
import type { LiveRoom } from '../live-room.ts'
import type { LiveUser } from '../live-user.ts'
import type { TimelinePart } from '../plan.ts'
import type { ConnectionState, SentRoom } from './connection-state.ts'
import type { RoomLabels } from './room-labels.ts'
import type { SelectedRoom, Selection } from './select-rooms.ts'

export interface RoomPart {
  readonly selected: SelectedRoom
  readonly sent: SentRoom | undefined
  /** The client gets all of the room, in place of what it has. */
  readonly initial: boolean
  /** The room was told up to here; 0 where `initial`. */
  readonly after: number
  /** Absent where the user may see stripped state alone. */
  readonly timeline: TimelinePart | undefined
  /** The timeline reaches back beyond what was told, because more of it is asked for than before. */
  readonly expanded: boolean
  /** Other state is asked for than before. */
  readonly restated: boolean
  readonly dm: boolean
  /** There is something to tell, whatever is read. */
  readonly certain: boolean
}

export interface Span {
  readonly since: StreamPositions | undefined
  readonly upTo: StreamPositions
}

/** Call it when nothing has been awaited since `upTo` was read; what it returns stays right while streams go on. */
export function planRooms(
  user: LiveUser,
  selection: Selection,
  state: ConnectionState,
  labels: RoomLabels,
  span: Span,
): RoomPart[] {
  const parts: RoomPart[] = []
  for (const selected of selection.rooms.values()) {
    const sent = state.rooms.get(selected.membership.room_nid)
    const dm = labels.direct.has(selected.membership.room_id)
    const part = partOf(user, selected, sent, dm, span)
    if (part) parts.push(part)
  }
  return parts
}

/** Position in stream events up to which a room was told. */
export function toldUpTo(sent: SentRoom, since: StreamPositions | undefined): number {
  return sent.events ?? since?.events ?? 0
}

function partOf(
  user: LiveUser,
  selected: SelectedRoom,
  sent: SentRoom | undefined,
  dm: boolean,
  span: Span,
): RoomPart | undefined {
  const { membership } = selected
  switch (membership.membership) {
    case 'join':
      return joinedPart(user, selected, sent, dm, span)
    case 'invite':
    case 'knock': {
      const told = sent && toldUpTo(sent, span.since)
      if (sent && told !== undefined && told >= membership.position && sent.dm === dm) return undefined
      return {
        selected,
        sent,
        initial: true,
        after: 0,
        timeline: undefined,
        expanded: false,
        restated: false,
        dm,
        certain: true,
      }
    }
    case 'leave':
    case 'ban':
      return leftPart(selected, sent, dm, span)
  }
}

function joinedPart(
  user: LiveUser,
  selected: SelectedRoom,
  sent: SentRoom | undefined,
  dm: boolean,
  { since, upTo }: Span,
): RoomPart | undefined {
  const { membership, config } = selected
  const { room } = membership
  if (!room) return undefined
  const told = sent ? toldUpTo(sent, since) : 0
  const initial = !sent || membership.joinedAt > told
  if (initial) {
    const timeline = timelinePart(selected, { room, after: 0, upTo: upTo.events, fresh: true })
    return { selected, sent, initial, after: 0, timeline, expanded: false, restated: false, dm, certain: true }
  }
  const expanded = config.limit > sent.limit
  const restated = config.required !== sent.required && config.required.text !== sent.required.text
  const counted = sent.staleCounts || (since !== undefined && hasRead(user, room, since))
  const certain = expanded || counted || dm !== sent.dm
  if (!certain && !restated && room.events <= told) return undefined
  const timeline = timelinePart(selected, {
    room,
    after: expanded ? 0 : told,
    upTo: upTo.events,
    fresh: expanded,
  })
  return { selected, sent, initial, after: told, timeline, expanded, restated, dm, certain }
}

/** Whether the user's own receipts in the room may have moved since: its counts are others then. */
export function hasRead(user: LiveUser, room: LiveRoom, since: StreamPositions): boolean {
  if (room.receipts > since.receipts) {
    if (room.receiptsFrom > since.receipts) return true
    for (let i = room.recentReceipts.length - 1; i >= 0; i--) {
      const row = room.recentReceipts[i]
      if (!row || row.position <= since.receipts) break
      if (row.user_id === user.user_id) return true
    }
  }
  return hasPrivateReceipt(user, room, since.receipts)
}

export function hasPrivateReceipt(user: LiveUser, room: LiveRoom, after: number): boolean {
  if (user.privateReceipts <= after) return false
  if (user.privateReceiptsFrom > after) return true
  return user.recentPrivateReceipts.some((row) => row.room_nid === room.room_nid && row.position > after)
}

/** Of a room that the user is out of: what happened up to then, or that alone. */
function leftPart(
  selected: SelectedRoom,
  sent: SentRoom | undefined,
  dm: boolean,
  { since }: Span,
): RoomPart | undefined {
  const { membership, config } = selected
  const { position, joinedAt, leftAt } = membership
  const end = leftAt > joinedAt ? leftAt : position
  const base = { selected, sent, dm, restated: false, expanded: false, certain: true }
  const told = sent ? toldUpTo(sent, since) : 0
  if (!sent || (joinedAt > told && leftAt > joinedAt)) {
    if (leftAt === 0) return undefined
    return { ...base, initial: true, after: 0, timeline: timelinePart(selected, { after: 0, upTo: end, fresh: true }) }
  }
  if (told >= position) {
    const expanded = config.limit > sent.limit && leftAt > 0
    const restated = config.required.text !== sent.required.text && leftAt > 0
    if (!expanded && !restated && dm === sent.dm) return undefined
    const timeline = timelinePart(selected, { after: expanded ? 0 : end, upTo: end, fresh: expanded })
    return { ...base, initial: false, after: end, timeline, expanded, restated, certain: expanded || dm !== sent.dm }
  }
  if (leftAt > told) {
    const timeline = timelinePart(selected, { after: told, upTo: end, fresh: false })
    return { ...base, initial: false, after: told, timeline }
  }
  const timeline = timelinePart(selected, { after: told, upTo: position, fresh: false, ownEventOnly: true })
  return { ...base, initial: false, after: told, timeline }
}

function timelinePart(
  { membership }: SelectedRoom,
  part: {
    readonly room?: LiveRoom
    readonly after: number
    readonly upTo: number
    readonly fresh: boolean
    readonly ownEventOnly?: boolean
  },
): TimelinePart {
  return {
    room: undefined,
    ownEventOnly: false,
    ...part,
    membership: { ...membership },
    // State is read apart from the timeline: what is asked for differs from room to room.
    fullState: false,
    newly: false,
  }
}
