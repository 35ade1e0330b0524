/** Rooms as their readers may see them: who gets in, how far they see, and which events of a page are theirs to see.
 *  https://spec.matrix.org/v1.19/client-server-api/#room-history-visibility
 *
 *  What is asked of every page (is the user joined, was the history ever hidden) is kept in memory and forgotten when the
 *  stream of events says so. An entry is the promise of its value: what was asked before a change is never kept after it. */
import { LRUCache } from 'lru-cache'
import * as v from 'valibot'
import { ignoredUsers } from '../core/ignored-users.ts'
import { entriesUpTo } from '../lru-bound.ts'
import { RoomId, type UserId } from '../matrix/ids.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { cacheTally } from '../metrics/tallies.ts'
import type { Replication } from '../replication/replication.ts'
import { cachedValue, type SharedCache } from '../replication/shared-cache.ts'
import { accountDataOf } from '../storage/account-data.ts'
import type { RoomRef } from '../storage/events.ts'
import { type MemberEvent, memberEvents } from '../storage/members.ts'
import { historyVisibilities, type RoomStanding, roomStanding } from '../storage/rooms.ts'
import type { ReadSql } from '../storage/sql.ts'
import { erasedCopies } from './erased-copies.ts'
import type { TimelineEvent } from './timeline-event.ts'
import { createStateGlimpses, membershipIn, sees, visibilityIn } from './visibility.ts'

/** An event that the user may see, with the user's membership at it. */
export interface SeenEvent {
  readonly event: TimelineEvent
  readonly membership: string
}

/** A room that a user may look into. */
export interface RoomView extends RoomRef {
  readonly room_version: string
  readonly user_id: UserId
  readonly membership: RoomStanding['membership']
  /** Position of the user's newest member event. */
  readonly memberSince: number
  /** No event after this position is shown. */
  readonly upTo: number
  /** Root of the state that the user may see; undefined: the present state. */
  readonly stateRoot: number | undefined
}

export interface RoomReader {
  /** Throws M_FORBIDDEN if there is no such room, and to who was never joined, unless all the world may read it. */
  open(roomId: RoomId, user: UserId): Promise<RoomView>
  /** True if no event of the room up to `view.upTo` is hidden from the user. */
  seesAll(view: RoomView): Promise<boolean>
  /** Those of `events` that the user may see, in their order. */
  seen(view: RoomView, events: readonly TimelineEvent[]): Promise<SeenEvent[]>
  /** Whose messages the user wants not to see. https://spec.matrix.org/v1.19/client-server-api/#ignoring-users */
  ignoredUsers(user: UserId): Promise<ReadonlySet<string>>
}

export interface RoomReaderDeps {
  readonly sql: ReadSql
  readonly replication: Replication
}

/** A change of the user's membership, as far as visibility goes. */
interface MembershipStep {
  readonly position: number
  readonly membership: string
  readonly state_root: number
}

const entriesMax = 20_000

/** What handlers share of who is joined. */
const sharedJoin = v.object({
  room_nid: v.number(),
  room_id: RoomId,
  room_version: v.string(),
  history_visibility: v.nullable(v.string()),
  membership: v.literal('join'),
  membership_position: v.nullable(v.number()),
  forgotten: v.nullable(v.boolean()),
})

export function createRoomReader({ sql, replication }: RoomReaderDeps): RoomReader {
  const joined = new LRUCache<string, Promise<RoomStanding | undefined>>({ ...entriesUpTo(entriesMax) })
  const steps = new LRUCache<string, Promise<readonly MembershipStep[]>>({ ...entriesUpTo(entriesMax) })
  const neverHidden = new LRUCache<number, Promise<boolean>>({ ...entriesUpTo(entriesMax) })
  const ignored = new LRUCache<string, Promise<ReadonlySet<string>>>({ ...entriesUpTo(entriesMax) })
  const glimpses = createStateGlimpses(sql)

  replication.subscribe('events', ({ rows }) => {
    for (const row of rows) {
      if (row.state_key === undefined) continue
      if (row.type === 'm.room.member') {
        joined.delete(`${row.state_key} ${row.room_id}`)
        steps.delete(`${row.state_key} ${row.room_nid}`)
      } else if (row.type === 'm.room.history_visibility') neverHidden.delete(row.room_nid)
    }
  })
  replication.subscribe('account_data', ({ rows }) => {
    for (const row of rows) if (row.type === 'm.ignored_user_list') ignored.delete(row.user_id)
  })
  replication.subscribe('invalidations', ({ rows }) => {
    if (!rows.some((row) => row.cache === 'room')) return
    for (const cache of [joined, steps, neverHidden]) cache.clear()
    glimpses.clear()
  })

  /** Kept only for users who are joined: what else decides (forgetting, the world's reading) is asked each time. */
  async function standingOf(roomId: RoomId, user: UserId): Promise<RoomStanding | undefined> {
    const key = `${user} ${roomId}`
    const known = joined.get(key)
    if (known) return known
    const asked = replication.cache ? sharedStanding(replication.cache, roomId, user) : roomStanding(sql, roomId, user)
    joined.set(key, asked)
    const forget = () => {
      if (joined.peek(key) === asked) joined.delete(key)
    }
    asked.then((standing) => {
      if (standing?.membership !== 'join') forget()
    }, forget)
    return asked
  }

  async function sharedStanding(cache: SharedCache, roomId: RoomId, user: UserId): Promise<RoomStanding | undefined> {
    const name = `${roomId} ${user}` as const
    const slot = await cache.look({ name: `standing:${name}`, marks: [`member:${name}`, `room:${roomId}`] })
    const shared = cachedValue(slot, sharedJoin)
    if (shared) return shared
    const standing = await roomStanding(sql, roomId, user)
    if (standing?.membership === 'join') slot?.put(JSON.stringify(standing))
    return standing
  }

  const stepsOf = (room: RoomRef, user: UserId) =>
    kept(steps, `${user} ${room.room_nid}`, async () => (await memberEvents(sql, room.room_nid, user)).map(stepOf))

  const wasNeverHidden = (room: RoomRef) =>
    kept(neverHidden, room.room_nid, async () =>
      (await historyVisibilities(sql, room.room_nid)).every((content) => {
        const visibility = visibilityIn(content)
        return visibility === 'shared' || visibility === 'world_readable'
      }),
    )

  /** With redacted copies of what erased users wrote while the reader was not there. */
  async function withErased(view: RoomView, seen: SeenEvent[]): Promise<SeenEvent[]> {
    const before = seen.filter(({ event, membership }) => membership !== 'join' && event.sender !== view.user_id)
    if (before.length === 0) return seen
    const copies = await erasedCopies(
      sql,
      before.map(({ event }) => event),
    )
    if (copies.size === 0) return seen
    return seen.map((one) => {
      const copy = one.membership === 'join' ? undefined : copies.get(one.event.event_nid)
      return copy ? { ...one, event: copy } : one
    })
  }

  const seesAll = async (view: RoomView) => view.membership === 'join' && (await wasNeverHidden(view))

  return {
    async open(roomId, user) {
      const standing = await standingOf(roomId, user)
      if (!standing) throw notInRoom()
      const { room_nid, room_id, room_version, membership } = standing
      const now = replication.positions().events
      const view = {
        room_nid,
        room_id,
        room_version,
        user_id: user,
        membership,
        memberSince: standing.membership_position ?? 0,
        upTo: now,
        stateRoot: undefined,
      }
      if (membership === 'join') return view
      const worldReadable = standing.history_visibility === 'world_readable'
      if (membership !== null && !standing.forgotten) {
        const end = endOfStay(await stepsOf(standing, user))
        if (end) return { ...view, upTo: worldReadable ? now : end.position, stateRoot: end.state_root }
      }
      if (worldReadable) return view
      throw notInRoom()
    },

    seesAll,

    async seen(view, events) {
      if (events.length === 0) return []
      const { user_id, memberSince } = view
      if (await seesAll(view)) {
        if (events.every((event) => event.position >= memberSince)) {
          return events.map((event) => ({ event, membership: 'join' }))
        }
        const history = await stepsOf(view, user_id)
        return withErased(
          view,
          events.map((event) => ({ event, membership: membershipAt(history, event.position) })),
        )
      }
      const [history, states] = await Promise.all([stepsOf(view, user_id), glimpses.of(user_id, events)])
      const lastJoin = view.membership === 'join' ? Number.POSITIVE_INFINITY : lastJoinOf(history)
      const seen: SeenEvent[] = []
      for (const event of events) {
        const state = states.get(event.event_nid)
        if (!state || !sees(event, user_id, state, lastJoin > event.position)) continue
        seen.push({ event, membership: state.membership ?? 'leave' })
      }
      return withErased(view, seen)
    },

    ignoredUsers: (user) =>
      kept(ignored, user, async () => {
        const text = await accountDataOf(sql, { user_id: user, type: 'm.ignored_user_list' })
        return text === undefined ? new Set<string>() : ignoredUsers(text)
      }),
  }
}

const tally = cacheTally('room_standings')

function kept<K extends string | number, V>(
  cache: LRUCache<K, Promise<V>>,
  key: K,
  load: () => Promise<V>,
): Promise<V> {
  const known = cache.get(key)
  if (known) {
    tally.hits++
    return known
  }
  tally.misses++
  const asked = load()
  cache.set(key, asked)
  asked.catch(() => {
    if (cache.peek(key) === asked) cache.delete(key)
  })
  return asked
}

/** The member event that ended the user's last stay in the room; undefined: never joined, or still there. */
function endOfStay(history: readonly MembershipStep[]): MembershipStep | undefined {
  const lastJoin = history.findLastIndex((step) => step.membership === 'join')
  return lastJoin < 0 ? undefined : history[lastJoin + 1]
}

function lastJoinOf(history: readonly MembershipStep[]): number {
  return history.findLast((step) => step.membership === 'join')?.position ?? -1
}

/** Counting what the event at `position` did; `leave` before the first. */
function membershipAt(history: readonly MembershipStep[], position: number): string {
  return history.findLast((step) => step.position <= position)?.membership ?? 'leave'
}

function stepOf({ position, state_root, content }: MemberEvent): MembershipStep {
  return { position, state_root, membership: membershipIn(content) ?? 'leave' }
}

function notInRoom(): MatrixError {
  return new MatrixError('M_FORBIDDEN', 'You are not in this room')
}
