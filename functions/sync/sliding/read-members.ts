/** Member events that a client needs to show what it is sent: of those who wrote it, where it asked for members lazily, and of
 *  those by whom the room is named.
 *  https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#lazy-loaded-memberships */
import { isJsonObject } from '../../../shared/matrix/json-value.ts'
import { findMembers, type MemberNeed } from '../lazy-members.ts'
import { type Soon, soon } from '../soon.ts'
import type { RoomSection, StateEvent } from '../timelines.ts'
import type { Hero, ReadContext, ReadRoom } from './read-rooms.ts'

/** Fills in `heroes` and `members`, and adds to `state`. */
export function readMembers(context: ReadContext, rooms: readonly ReadRoom[]): Soon<void> {
  const needs: MemberNeed[] = []
  const bySection = new Map<RoomSection, { read: ReadRoom; writers: ReadonlySet<string> }>()
  for (const read of rooms) {
    const { section } = read
    if (!section) continue
    const writers = unknownWriters(read, section)
    const heroes = read.summary?.heroes ?? []
    if (writers.size + heroes.length === 0) continue
    bySection.set(section, { read, writers })
    needs.push({ section, users: [...new Set([...writers, ...heroes])], before: section.part.upTo + 1 })
  }
  if (needs.length === 0) return undefined
  return soon(findMembers(context, needs), (found) => {
    const heroes = new Map<ReadRoom, Map<string, Hero>>()
    for (const [section, row] of found) {
      const wanted = bySection.get(section)
      if (!wanted) continue
      const { read, writers } = wanted
      if (writers.has(row.state_key)) read.state.push(row)
      if (!read.summary?.heroes?.some((hero) => hero === row.state_key)) continue
      const known = heroes.get(read) ?? new Map<string, Hero>()
      heroes.set(read, known.set(row.state_key, heroOf(row)))
    }
    for (const { read } of bySection.values()) {
      const known = heroes.get(read)
      read.heroes = read.summary?.heroes?.map((user_id) => known?.get(user_id) ?? { user_id })
    }
  })
}

/** Those who wrote what is shown, or whose membership it changes, and whose member event the client does not have. */
function unknownWriters(read: ReadRoom, section: RoomSection): ReadonlySet<string> {
  const { part, state } = read
  const { required } = part.selected.config
  const wanted = new Set<string>()
  if (!required.lazyMembers || section.part.ownEventOnly) return wanted
  for (const { event } of section.events) {
    wanted.add(event.sender)
    if (event.type === 'm.room.member' && event.state_key !== undefined) wanted.add(event.state_key)
  }
  const had = part.initial || section.limited || !part.sent ? [] : part.sent.members
  const sentNow = state.flatMap((event) => (event.type === 'm.room.member' ? event.state_key : []))
  read.members = [...new Set([...had, ...sentNow, ...wanted])]
  for (const user of had) wanted.delete(user)
  for (const user of sentNow) wanted.delete(user)
  return wanted
}

function heroOf({ state_key, content }: StateEvent): Hero {
  const parsed: unknown = JSON.parse(content)
  const { displayname, avatar_url } = isJsonObject(parsed) ? parsed : {}
  return {
    user_id: state_key,
    ...(typeof displayname === 'string' ? { displayname } : {}),
    ...(typeof avatar_url === 'string' ? { avatar_url } : {}),
  }
}
