/** One page of what a search finds, as far as the user may see it. */
import type { CompiledEventFilter } from '../../../shared/core/filter.ts'
import { matchedWords } from '../../../shared/core/words.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import { isJsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import {
  bestMatches,
  type FoundEvent,
  foundEvents,
  kindOfType,
  newestMatches,
  type SearchQuestion,
  searchedKeys,
} from '../../../shared/storage/event-search.ts'
import type { RoomView, SeenEvent } from '../../../shared/timeline/room-reader.ts'
import { isIgnored } from '../../../shared/timeline/timeline-page.ts'
import type { ClientDeps } from '../deps.ts'
import { readerOf } from '../read/rendering.ts'

export interface Match {
  readonly seen: SeenEvent
  readonly view: RoomView
  readonly rank: number
  readonly position: number
  /** As they were written. */
  readonly words: ReadonlySet<string>
}

/** Where a page begins. `recent`: with the newest match up to `upTo`. `rank`: after the `offset` best of the newest
 *  `rankedMax` up to there. */
export interface SearchPlace {
  readonly upTo: number
  readonly offset: number
}

export interface MatchPage {
  readonly matches: readonly Match[]
  /** Undefined: this was the last page. */
  readonly next: SearchPlace | undefined
}

export interface MatchRequest {
  readonly user: UserId
  readonly question: Omit<SearchQuestion, 'upTo'>
  readonly filter: CompiledEventFilter
  readonly order: 'recent' | 'rank'
  readonly from: SearchPlace
  readonly limit: number
}

/** The best are looked for among so many. */
const rankedMax = 500
/** A page ends early, and says where, after so many reads: what is found may all be hidden. */
const readsMax = 6
const readMin = 20

export async function matchPage(deps: ClientDeps, request: MatchRequest): Promise<MatchPage> {
  const { order, limit, question } = request
  const matches: Match[] = []
  let place = request.from
  for (let reads = 0; reads < readsMax; reads++) {
    const wanted = Math.max(limit - matches.length, readMin)
    const { upTo, offset } = place
    const rows =
      order === 'recent'
        ? await newestMatches(deps.sql, { ...question, upTo }, wanted)
        : await bestMatches(deps.sql, { ...question, upTo }, { among: rankedMax, offset, limit: wanted })
    const shown = await visible(deps, request, rows)
    for (const [i, row] of rows.entries()) {
      const match = shown.get(row.event_nid)
      if (match) matches.push(match)
      place = order === 'recent' ? { upTo: row.position - 1, offset: 0 } : { upTo, offset: offset + i + 1 }
      // Clients expect a token wherever a page is full.
      if (matches.length === limit) return { matches, next: place }
    }
    if (rows.length < wanted) return { matches, next: undefined }
  }
  return { matches, next: place }
}

async function visible(
  deps: ClientDeps,
  { user, question, filter }: MatchRequest,
  rows: readonly FoundEvent[],
): Promise<ReadonlyMap<number, Match>> {
  const reader = readerOf(deps)
  const [events, ignored] = await Promise.all([
    foundEvents(
      deps.sql,
      rows.map((row) => row.event_nid),
    ),
    reader.ignoredUsers(user),
  ])
  const ranks = new Map(rows.map((row) => [row.event_nid, row.rank]))
  const chosen = events.filter((event) => !isIgnored(event, ignored) && filter.matches(event))
  const byRoom = Map.groupBy(chosen, (event) => event.room_id)
  const matches = new Map<number, Match>()
  await Promise.all(
    [...byRoom].map(async ([room_id, events]) => {
      const view = await reader.open(room_id, user).catch(closed)
      if (!view) return
      const here = events.filter((event) => event.position <= view.upTo)
      for (const seen of await reader.seen(view, here)) {
        const { event } = seen
        const words = wordsFound(event.type, event.content, question)
        if (!words) continue
        const rank = ranks.get(event.event_nid) ?? 0
        matches.set(event.event_nid, { seen, view, rank, position: event.position, words })
      }
    }),
  )
  return matches
}

/** Looked at in what the user is shown: of what an erased user wrote there may be nothing left. */
function wordsFound(type: string, content: string, { terms }: MatchRequest['question']): Set<string> | undefined {
  const kind = kindOfType(type)
  const parsed: unknown = JSON.parse(content)
  const text = kind && isJsonObject(parsed) ? parsed[searchedKeys[kind]] : undefined
  return typeof text === 'string' ? matchedWords(text, terms) : undefined
}

/** A room that was forgotten meanwhile holds nothing. */
function closed(error: unknown): undefined {
  if (error instanceof MatrixError && error.errcode === 'M_FORBIDDEN') return undefined
  throw error
}
