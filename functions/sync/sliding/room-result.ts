/** The JSON of one room of an answer. Fields of the accepted proposal that the unstable version names otherwise are there under
 *  both names. https://github.com/matrix-org/matrix-spec-proposals/blob/main/proposals/4186-simplified-sliding-sync.md#roomresult */
import { encodePaginationToken } from '../../../shared/streams/token.ts'
import { strippedStateJson } from '../../../shared/timeline/client-json.ts'
import { type EventStyle, stateJson, timelineEventsJson } from '../room-json.ts'
import type { RoomSection } from '../timelines.ts'
import type { RoomUnread } from '../unread.ts'
import type { ReadRoom } from './read-rooms.ts'

export interface ResultContext {
  readonly style: EventStyle
  /** Where the connection was in stream events; undefined on its first request. */
  readonly since: number | undefined
  readonly unread: ReadonlyMap<number, RoomUnread>
}

/** `"!room":{…}`; undefined where, all being read, there is nothing to tell. */
export function roomResult(read: ReadRoom, context: ResultContext): string | undefined {
  const { part, section } = read
  const { membership, room_id, room_nid, room } = part.selected.membership
  if (!part.certain && isQuiet(read)) return undefined
  const fields: string[] = []
  if (part.initial) fields.push('"initial":true')
  if (part.initial || part.after < part.selected.membership.position) fields.push(`"membership":"${membership}"`)
  if (read.name !== undefined && !(part.initial && read.name === null))
    fields.push(`"name":${JSON.stringify(read.name)}`)
  if (read.avatar !== undefined && !(part.initial && read.avatar === null)) {
    fields.push(`"avatar":${JSON.stringify(read.avatar)}`)
  }
  if (read.heroes && read.heroes.length > 0) fields.push(`"heroes":${JSON.stringify(read.heroes)}`)
  if (part.sent && !part.initial ? part.sent.dm !== part.dm : part.dm) fields.push(`"is_dm":${part.dm}`)
  if (section) fields.push(...historyFields(read, section, context))
  if (read.stripped) {
    const stripped = `[${read.stripped.map(strippedStateJson).join(',')}]`
    fields.push(`"invite_state":${stripped}`, `"stripped_state":${stripped}`)
  }
  if (read.summary) {
    const { joined_members, invited_members } = read.summary
    fields.push(`"joined_count":${joined_members}`, `"invited_count":${invited_members}`)
  }
  if (room) {
    const { notifications, highlights } = countsOf(context.unread.get(room_nid))
    fields.push(`"notification_count":${notifications}`, `"highlight_count":${highlights}`)
  }
  fields.push(`"bump_stamp":${read.bump}`)
  const { lists } = part.selected
  if (lists.length > 0) fields.push(`"lists":${JSON.stringify(lists)}`)
  return `${JSON.stringify(room_id)}:{${fields.join(',')}}`
}

function historyFields({ part, state }: ReadRoom, section: RoomSection, { style, since }: ResultContext): string[] {
  const fields: string[] = []
  if (state.length > 0) fields.push(`"required_state":${stateJson(state, style)}`)
  const { events, limited, start } = section
  if (events.length > 0) fields.push(`"timeline":${timelineEventsJson(section, style)}`)
  if (events.length > 0 || limited || part.initial) {
    const live = since === undefined ? 0 : events.filter(({ event }) => event.position > since).length
    fields.push(`"prev_batch":"${encodePaginationToken(start)}"`, `"limited":${limited}`, `"num_live":${live}`)
  }
  if (isExpanded(part.expanded, section, part.after)) {
    fields.push('"expanded_timeline":true', '"unstable_expanded_timeline":true')
  }
  return fields
}

function isExpanded(expanded: boolean, { events }: RoomSection, after: number): boolean {
  const first = events[0]
  return expanded && first !== undefined && first.event.position <= after
}

function isQuiet({ section, state }: ReadRoom): boolean {
  return !section || (section.events.length === 0 && !section.limited && state.length === 0)
}

function countsOf(unread: RoomUnread | undefined): { notifications: number; highlights: number } {
  let { notifications, highlights } = unread?.main ?? { notifications: 0, highlights: 0 }
  for (const counts of unread?.threads.values() ?? []) {
    notifications += counts.notifications
    highlights += counts.highlights
  }
  return { notifications, highlights }
}
