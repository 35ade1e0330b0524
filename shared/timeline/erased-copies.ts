/** Who was not in a room when an erased user wrote there gets a redacted copy.
 *  https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3accountdeactivate */
import { redactContent } from '../core/redaction.ts'
import { type RoomRules, rulesOf } from '../core/room-versions.ts'
import type { JsonObject } from '../matrix/json-value.ts'
import { erasedUsers, versionsOfRooms } from '../storage/erased.ts'
import type { ReadSql } from '../storage/sql.ts'
import type { TimelineEvent } from './timeline-event.ts'

/** Redacted copies by `event_nid`, of those `events` that need one; each was written while the reader was not joined. */
export async function erasedCopies(
  sql: ReadSql,
  events: readonly TimelineEvent[],
): Promise<ReadonlyMap<number, TimelineEvent>> {
  const authors = new Set<string>()
  for (const { sender, replaces } of events) {
    authors.add(sender)
    if (replaces) authors.add(replaces.sender)
  }
  const erased = await erasedUsers(sql, [...authors])
  const copies = new Map<number, TimelineEvent>()
  if (erased.size === 0) return copies
  const concerned = events.filter(({ sender, replaces }) => erased.has(sender) || erased.has(replaces?.sender ?? ''))
  const versions = await versionsOfRooms(sql, [...new Set(concerned.map(({ room_nid }) => room_nid))])
  for (const event of concerned) {
    const rules = rulesOf(versions.get(event.room_nid) ?? '')
    if (!rules) throw new Error(`the version of room ${event.room_id} is not known`)
    copies.set(event.event_nid, copyOf(event, rules, erased))
  }
  return copies
}

function copyOf(event: TimelineEvent, rules: RoomRules, erased: ReadonlySet<string>): TimelineEvent {
  // What it replaced may be the erased user's own words; so may its edits, which are bundled with it.
  const { replaces: _, ...rest } = event
  if (!erased.has(event.sender)) return rest
  const content = redactContent(rules, event.type, JSON.parse(event.content) as JsonObject)
  return { ...rest, content: JSON.stringify(content), has_children: false }
}
