/** What every extension of sliding sync is: it says what is new for the connection, as JSON, or nothing. */
import type { StreamPosition } from '../../../../shared/streams/define.ts'
import type { AnswerContext } from '../../answer.ts'
import type { SyncDeps } from '../../deps.ts'
import type { Soon } from '../../soon.ts'
import type { ConnectionState } from '../connection-state.ts'
import type { Span } from '../plan-rooms.ts'
import type { Scope } from '../request.ts'
import type { SelectedRoom, Selection } from '../select-rooms.ts'

/** What the answer shows of a room's timeline. */
export interface ShownTimeline {
  readonly initial: boolean
  readonly event_ids: readonly string[]
  /** Every event after this position, up to the answer's, is among them. */
  readonly from: number
}

export interface ExtensionContext extends Span {
  readonly deps: SyncDeps
  /** The client has all messages to its device up to here; undefined: it may have none. */
  readonly inboxFrom: StreamPosition | undefined
  readonly answer: AnswerContext
  /** What the connection had told before. */
  readonly state: ConnectionState
  readonly selection: Selection
  readonly shown: ReadonlyMap<number, ShownTimeline>
}

export interface ExtensionAnswer {
  readonly json: string
  /** The client has to hear of it now; else it goes along with other news. */
  readonly news: boolean
}

export type Extension<Config> = (context: ExtensionContext, config: Config) => Soon<ExtensionAnswer | undefined>

/** Whether a room is among those that an extension is asked for: of some lists, or subscribed to; by default of all. */
export function inScope(scope: Scope | null | undefined): (room: SelectedRoom) => boolean {
  if (!scope?.enabled) return () => false
  const { lists, rooms } = scope
  const allLists = !lists || lists.includes('*')
  const allRooms = !rooms || rooms.includes('*')
  if (allLists && allRooms) return () => true
  return (room) =>
    (allLists ? room.lists.length > 0 : room.lists.some((list) => lists.includes(list))) ||
    (room.subscribed && allRooms) ||
    (rooms?.includes(room.membership.room_id) ?? false)
}
