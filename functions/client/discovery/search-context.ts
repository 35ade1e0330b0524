/** What was said around an event that a search found. */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import { isJsonObject } from '../../../shared/matrix/json-value.ts'
import { encodePaginationToken, timelineBeginning } from '../../../shared/streams/token.ts'
import type { TimelineEvent } from '../../../shared/timeline/timeline-event.ts'
import { timelinePage } from '../../../shared/timeline/timeline-page.ts'
import type { ClientDeps } from '../deps.ts'
import { eventsJson, readerOf } from '../read/rendering.ts'
import { membersOf } from '../read/state-of-view.ts'
import type { Match } from './search-matches.ts'

const count = v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0)), 5)
export const ContextWish = v.object({
  before_limit: count,
  after_limit: count,
  include_profile: v.optional(v.boolean(), false),
})
export type ContextWish = v.InferOutput<typeof ContextWish>

const eventsMax = 20

/** JSON of the key `context`. */
export async function contextJson(
  deps: ClientDeps,
  user: Requester,
  { seen: target, view }: Match,
  wish: ContextWish,
): Promise<string> {
  const reader = readerOf(deps)
  const { position } = target.event
  const page = (range: { after: number; upTo: number }, direction: 'b' | 'f', wanted: number) =>
    timelinePage(deps.sql, reader, view, { range, direction, limit: Math.min(wanted, eventsMax) })
  const [before, after] = await Promise.all([
    page({ after: timelineBeginning, upTo: position - 1 }, 'b', wish.before_limit),
    page({ after: position, upTo: view.upTo }, 'f', wish.after_limit),
  ])
  const around = [...before.seen, ...after.seen]
  const json = await eventsJson(deps, view, around, user)
  const first = before.seen.at(-1)?.event ?? target.event
  const last = after.seen.at(-1)?.event ?? target.event
  const start = encodePaginationToken(before.end ?? first.position - 1)
  const end = encodePaginationToken(after.end ?? last.position)
  let context = `{"start":"${start}","end":"${end}","events_before":[${json.slice(0, before.seen.length).join(',')}]`
  context += `,"events_after":[${json.slice(before.seen.length).join(',')}]`
  if (wish.include_profile) {
    const senders = new Set([target, ...around].map(({ event }) => event.sender))
    const members = await membersOf(deps.sql, view, last.state_root, [...senders])
    context += `,"profile_info":${JSON.stringify(Object.fromEntries(members.map(profileOf)))}`
  }
  return `${context}}`
}

function profileOf({ state_key, content }: TimelineEvent): [string, object] {
  const parsed: unknown = JSON.parse(content)
  const { displayname, avatar_url } = isJsonObject(parsed) ? parsed : {}
  return [
    state_key ?? '',
    {
      ...(typeof displayname === 'string' ? { displayname } : {}),
      ...(typeof avatar_url === 'string' ? { avatar_url } : {}),
    },
  ]
}
