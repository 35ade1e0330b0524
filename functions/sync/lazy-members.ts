/** Lazy loading: the member events that a client needs to show what it was just sent, and was not sent before.
 *  https://spec.matrix.org/v1.19/client-server-api/#lazy-loading-room-members */
import { type RoomSummary, type StateRequest, type StateRow, stateBefore } from '../../shared/storage/sync-rooms.ts'
import type { Live } from './live.ts'
import { type Soon, soon } from './soon.ts'
import type { RoomSection, SectionContext } from './timelines.ts'

/** Entries kept of what a user's devices were sent. */
const sentMax = 20_000

export interface MemberNeed {
  readonly section: RoomSection
  readonly users: readonly string[]
  /** Member events at positions before this one. */
  readonly before: number
}

/** Adds member events to the sections' state. `summaries`: of rooms whose heroes the answer names. */
export function addLazyMembers(
  context: SectionContext,
  device_id: string,
  sections: readonly RoomSection[],
  summaries: ReadonlyMap<number, RoomSummary>,
): Soon<void> {
  const needs = sections.map((section) =>
    neededBy(context, device_id, section, summaries.get(section.part.membership.room_nid)),
  )
  return soon(findMembers(context, needs), (found) => {
    for (const [section, row] of found) {
      if (context.filter.state.matches({ ...row, room_id: section.part.membership.room_id })) section.state.push(row)
    }
    remember(context, device_id, sections)
  })
}

/** Their member events, with the section that needs them; who has none is left out. */
export function findMembers(
  context: Pick<SectionContext, 'sql' | 'live'>,
  needs: readonly MemberNeed[],
): Soon<[RoomSection, StateRow][]> {
  const found: [RoomSection, StateRow][] = []
  const missing: StateRequest[] = []
  for (const { section, users, before } of needs) {
    const unknown: string[] = []
    for (const user of users) {
      const known = section.part.room?.members.get(user)
      if (known && known.position < before) found.push([section, known])
      else unknown.push(user)
    }
    if (unknown.length > 0) {
      const { room_nid } = section.part.membership
      missing.push({ room_nid, before, members: unknown, rest: false })
    }
  }
  if (missing.length === 0) return found
  return membersBefore(context, missing).then((rows) => {
    for (const { section, before } of needs) {
      for (const row of rows.get(section.part.membership.room_nid) ?? []) {
        found.push([section, row])
        rememberIfCurrent(context.live, section, row, before)
      }
    }
    return found
  })
}

/** Many clients who wait for the same event need the same member: they share one query. */
const underway = new WeakMap<Live, Map<string, Promise<Map<number, StateRow[]>>>>()

function membersBefore(
  { sql, live }: Pick<SectionContext, 'sql' | 'live'>,
  requests: StateRequest[],
): Promise<Map<number, StateRow[]>> {
  const [first] = requests
  if (requests.length > 1 || !first || first.members === 'all' || first.members.length > 1) {
    return stateBefore(sql, requests)
  }
  let shared = underway.get(live)
  if (!shared) {
    shared = new Map()
    underway.set(live, shared)
  }
  const key = `${first.room_nid} ${first.before} ${first.members[0]}`
  const known = shared.get(key)
  if (known) return known
  const reading = stateBefore(sql, requests)
  const byKey = shared
  const done = () => byKey.delete(key)
  shared.set(key, reading)
  reading.then(done, done)
  return reading
}

function neededBy(
  context: SectionContext,
  device_id: string,
  section: RoomSection,
  summary: RoomSummary | undefined,
): MemberNeed {
  const { part, events, state, start } = section
  const before = (context.stateAfter ? part.upTo : start) + 1
  if (part.ownEventOnly) return { section, users: [], before }
  const wanted = new Set<string>()
  for (const { event } of events) wanted.add(event.sender)
  if (part.fullState) wanted.add(context.user.user_id)
  for (const hero of summary?.heroes ?? []) wanted.add(hero)
  for (const event of state) if (event.type === 'm.room.member') wanted.delete(event.state_key)
  if (wanted.size > 0 && !part.fullState && !context.filter.redundantMembers) {
    const sent = context.user.sentMembers.get(device_id)?.get(part.membership.room_nid)
    if (sent) for (const user of wanted) if ((sent.get(user) ?? Infinity) <= part.after) wanted.delete(user)
  }
  return { section, users: [...wanted], before }
}

/** It is the member's event today if the cache holds all that came since and no event there replaced it. */
function rememberIfCurrent(live: Live, { part }: RoomSection, row: StateRow, before: number): void {
  const { room } = part
  if (!room || room.timelineFrom >= before) return
  const replaced = room.timeline.some(
    ({ event }) => event.type === 'm.room.member' && event.state_key === row.state_key && event.position > row.position,
  )
  if (replaced) return
  const weightBefore = room.bytes
  room.rememberMember(row)
  live.touch(room, weightBefore)
}

/** What this answer holds, the device has once it comes back with the token that the answer gives. */
function remember({ user, filter }: SectionContext, device_id: string, sections: readonly RoomSection[]): void {
  if (filter.redundantMembers) return
  if (user.sentMembersCount > sentMax) {
    user.sentMembers.clear()
    user.sentMembersCount = 0
  }
  let rooms = user.sentMembers.get(device_id)
  if (!rooms) {
    rooms = new Map()
    user.sentMembers.set(device_id, rooms)
  }
  for (const { part, events, state } of sections) {
    const { room_nid } = part.membership
    let sent = rooms.get(room_nid)
    if (!sent || part.fullState) {
      sent = new Map()
      rooms.set(room_nid, sent)
      user.sentMembersCount++
    }
    const before = sent.size
    for (const event of state) if (event.type === 'm.room.member') sent.set(event.state_key, part.upTo)
    for (const { event } of events) {
      if (event.type === 'm.room.member' && event.state_key !== undefined) sent.set(event.state_key, part.upTo)
    }
    user.sentMembersCount += sent.size - before
  }
}
