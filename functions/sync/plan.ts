/** What an answer is about: which rooms changed for the user between two places in the streams, and how. Worked out from
 *  memory; only a token older than the memory costs a query. */

import type { ReadSql } from '../../shared/storage/sql.ts'
import { forgottenRooms } from '../../shared/storage/sync-members.ts'
import { type Membership, type MembershipChange, membershipChanges } from '../../shared/storage/sync-rooms.ts'
import type { StreamPositions } from '../../shared/streams/registry.ts'
import type { Live } from './live.ts'
import type { LiveRoom } from './live-room.ts'
import type { LiveUser, UserRoom } from './live-user.ts'
import type { SyncFilter } from './sync-filter.ts'

/** A room in `join` or `leave`: its timeline is that of positions in (after, upTo]. */
export interface TimelinePart {
  readonly membership: UserRoom
  readonly room: LiveRoom | undefined
  readonly after: number
  readonly upTo: number
  /** All of the state, not what changed since `after`. */
  readonly fullState: boolean
  /** The client has nothing of this room yet, or has to start anew. */
  readonly fresh: boolean
  /** The user came in since the client last asked: there is history before what the timeline shows. */
  readonly newly: boolean
  /** The user was never joined: they may see the end of their membership alone. */
  readonly ownEventOnly: boolean
}

export interface JoinPart extends TimelinePart {
  readonly room: LiveRoom
}

export interface Plan {
  readonly since: StreamPositions | undefined
  readonly upTo: StreamPositions
  readonly joins: JoinPart[]
  readonly leaves: TimelinePart[]
  readonly invites: UserRoom[]
  readonly knocks: UserRoom[]
}

export interface PlanOptions {
  readonly filter: SyncFilter
  readonly fullState: boolean
}

/** Call it when nothing has been awaited since `upTo` was read; what it returns stays right while streams go on. */
export function makePlan(
  live: Live,
  sql: ReadSql,
  user: LiveUser,
  since: StreamPositions | undefined,
  upTo: StreamPositions,
  options: PlanOptions,
): Plan | Promise<Plan> {
  const plan: Plan = { since, upTo, joins: [], leaves: [], invites: [], knocks: [] }
  const left: UserRoom[] = []
  const moved = !since || since.events !== upTo.events
  const all = !since || options.fullState
  if (!all && !moved && !ephemeralMoved(live, since, upTo)) return plan
  const touched = since ? roomsWithAccountData(user, since, upTo) : undefined
  for (const membership of user.rooms.values()) {
    if (!options.filter.room(membership.room_id)) continue
    switch (membership.membership) {
      case 'join': {
        const part = joinPart(live, user, membership, since, upTo, options.fullState, touched)
        if (part) plan.joins.push(part)
        break
      }
      case 'invite':
        if ((all || membership.position > since.events) && user.showsInvite(membership.sender)) {
          plan.invites.push({ ...membership })
        }
        break
      case 'knock':
        if (all || membership.position > since.events) plan.knocks.push({ ...membership })
        break
      case 'leave':
      case 'ban':
        if ((all && options.filter.includeLeave) || (since && membership.position > since.events)) {
          left.push({ ...membership })
        }
        break
    }
  }
  plan.joins.sort((a, b) => b.room.events - a.room.events)
  if (left.length === 0) return plan
  return planLeft(sql, user, plan, left)
}

function ephemeralMoved(live: Live, since: StreamPositions, upTo: StreamPositions): boolean {
  return (
    since.receipts !== upTo.receipts ||
    since.account_data !== upTo.account_data ||
    since.typing !== upTo.typing ||
    since.typing < live.startedAt.typing
  )
}

/** Rooms whose account data the user changed in (since, upTo]; undefined if the memory does not reach that far back. */
export function roomsWithAccountData(user: LiveUser, since: StreamPositions, upTo: StreamPositions) {
  const rooms = new Set<number>()
  if (user.accountData <= since.account_data) return rooms
  if (user.accountDataFrom > since.account_data) return undefined
  for (const row of user.recentAccountData) {
    if (row.position > since.account_data && row.position <= upTo.account_data) rooms.add(row.room_nid)
  }
  return rooms
}

function joinPart(
  live: Live,
  user: LiveUser,
  membership: UserRoom,
  since: StreamPositions | undefined,
  upTo: StreamPositions,
  fullState: boolean,
  touched: ReadonlySet<number> | undefined,
): JoinPart | undefined {
  const { room } = membership
  if (!room) return undefined
  const fresh = !since || membership.joinedAt > since.events
  if (!fresh && !fullState) {
    const changed =
      room.events > since.events ||
      room.receipts > since.receipts ||
      room.typing > since.typing ||
      (since.typing < live.startedAt.typing && room.typists.length > 0) ||
      // The memory does not tell which room it was: reading decides, and leaves out what has nothing new.
      (touched ? touched.has(room.room_nid) : true) ||
      (user.privateReceipts > since.receipts && privatelyRead(user, room, since))
    if (!changed) return undefined
  }
  return {
    membership: { ...membership },
    room,
    after: fresh ? 0 : since.events,
    upTo: upTo.events,
    fullState: fresh || fullState,
    fresh,
    newly: fresh && since !== undefined,
    ownEventOnly: false,
  }
}

function privatelyRead(user: LiveUser, room: LiveRoom, since: StreamPositions): boolean {
  if (user.privateReceiptsFrom > since.receipts) return true
  return user.recentPrivateReceipts.some((row) => row.room_nid === room.room_nid && row.position > since.receipts)
}

/** What the user was before decides what a room they are out of shows. */
function planLeft(sql: ReadSql, user: LiveUser, plan: Plan, left: readonly UserRoom[]): Plan | Promise<Plan> {
  const after = plan.since?.events
  if (after === undefined) return planArchive(sql, user, plan, left)
  const newly = left.filter((room) => room.position > after)
  if (newly.length < left.length || user.changesFrom > after) return planArchive(sql, user, plan, left)
  return placeLeft(plan, newly, user.changes)
}

/** With rooms that were left long ago, or a token older than the memory. */
async function planArchive(sql: ReadSql, user: LiveUser, plan: Plan, left: readonly UserRoom[]): Promise<Plan> {
  const { since, upTo } = plan
  const [changes, forgotten] = await Promise.all([
    since ? membershipChanges(sql, user.user_id, { after: since.events, upTo: upTo.events }) : [],
    forgottenRooms(sql, user.user_id),
  ])
  // Of a room that was left since, the client is told, also where another client has had it forgotten.
  const shown = left.filter((room) => (since && room.position > since.events) || !forgotten.has(room.room_nid))
  return placeLeft(plan, shown, changes)
}

function placeLeft(plan: Plan, left: readonly UserRoom[], changes: readonly MembershipChange[]): Plan {
  for (const membership of left) {
    const { position, joinedAt, leftAt, room_nid } = membership
    // What happened after the stay, up to a ban say, is not the user's to see.
    const part = { membership, room: undefined, upTo: leftAt > joinedAt ? leftAt : position }
    const since = plan.since?.events
    if (since === undefined || position <= since) {
      const fresh = { ...part, after: 0, fullState: true, fresh: true, newly: false }
      plan.leaves.push({ ...fresh, ownEventOnly: joinedAt === 0 })
      continue
    }
    const before = membershipAt(changes, room_nid, since)
    if (before === 'join' && joinedAt <= since) {
      plan.leaves.push({ ...part, after: since, fullState: false, fresh: false, newly: false, ownEventOnly: false })
    } else if (joinedAt > since) {
      plan.leaves.push({ ...part, after: 0, fullState: true, fresh: true, newly: true, ownEventOnly: false })
    } else if (before !== 'leave' || membership.membership === 'ban') {
      const own = { ...part, upTo: position, ownEventOnly: true }
      plan.leaves.push({ ...own, after: since, fullState: false, fresh: false, newly: false })
    }
  }
  return plan
}

/** The user's membership of the room at `position`; null if they had none. */
function membershipAt(
  changes: readonly MembershipChange[],
  room_nid: number,
  position: number,
): Membership | null | undefined {
  return changes.find((change) => change.room_nid === room_nid && change.position > position)?.prev_membership
}
