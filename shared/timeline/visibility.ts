/** The two pieces of state that decide who sees an event: the history visibility and the viewer's membership, in the
 *  state at each event of a page. */
import { LRUCache } from 'lru-cache'
import { type HistoryVisibility, historyVisibilityOf, visibleTo } from '../core/visibility.ts'
import { entriesUpTo } from '../lru-bound.ts'
import { isJsonObject, type JsonValue } from '../matrix/json-value.ts'
import type { ReadSql } from '../storage/sql.ts'
import { stateAt } from '../storage/state.ts'
import type { TimelineEvent } from './timeline-event.ts'

/** In the state after an event. */
export interface StateGlimpse {
  readonly visibility: HistoryVisibility
  readonly membership: string | undefined
}

export interface StateGlimpses {
  /** By event_nid. Events that share a state are looked up once, and a state once looked up is remembered: it never changes. */
  of(user: string, events: readonly TimelineEvent[]): Promise<ReadonlyMap<number, StateGlimpse>>
  clear(): void
}

/** An event's surrogate, or none: what a state holds under one key. */
type Held = { readonly nid: number | undefined }

const entriesMax = 50_000
const visibilityKey = ['m.room.history_visibility', ''] as const

export function createStateGlimpses(sql: ReadSql): StateGlimpses {
  const visibilityHeld = new LRUCache<number, Held>({ ...entriesUpTo(entriesMax) })
  const membershipHeld = new LRUCache<string, Held>({ ...entriesUpTo(entriesMax) })
  const contents = new LRUCache<number, string>({ ...entriesUpTo(entriesMax) })

  async function lookUp(root: number, user: string): Promise<readonly [Held, Held]> {
    const key = `${root} ${user}`
    const visibility = visibilityHeld.get(root)
    const membership = membershipHeld.get(key)
    if (visibility && membership) return [visibility, membership]
    const [visibilityNid, membershipNid] = await stateAt(sql, root, [visibilityKey, ['m.room.member', user]])
    const held = [{ nid: visibilityNid }, { nid: membershipNid }] as const
    visibilityHeld.set(root, held[0])
    membershipHeld.set(key, held[1])
    return held
  }

  async function contentsOf(nids: ReadonlySet<number>): Promise<ReadonlyMap<number, string>> {
    const known = new Map<number, string>()
    const missing: number[] = []
    for (const nid of nids) {
      const content = contents.get(nid)
      if (content === undefined) missing.push(nid)
      else known.set(nid, content)
    }
    if (missing.length > 0) {
      const rows = await sql<{ event_nid: number; content: string }[]>`
        select event_nid, content from events where event_nid = any(${sql.array(missing, 20)}::bigint[])`
      for (const { event_nid, content } of rows) {
        known.set(event_nid, content)
        contents.set(event_nid, content)
      }
    }
    return known
  }

  return {
    async of(user, events) {
      const roots = [...new Set(events.map((event) => rootOf(event)))]
      const held = new Map(await Promise.all(roots.map(async (root) => [root, await lookUp(root, user)] as const)))
      const nids = new Set<number>()
      for (const pair of held.values()) for (const { nid } of pair) if (nid !== undefined) nids.add(nid)
      const known = await contentsOf(nids)
      const glimpseOf = new Map<number, StateGlimpse>()
      for (const [root, [visibility, membership]] of held) {
        glimpseOf.set(root, {
          visibility: visibilityIn(visibility.nid === undefined ? undefined : known.get(visibility.nid)),
          membership: membershipIn(membership.nid === undefined ? undefined : known.get(membership.nid)),
        })
      }
      const byEvent = new Map<number, StateGlimpse>()
      for (const event of events) {
        const glimpse = glimpseOf.get(rootOf(event))
        if (glimpse) byEvent.set(event.event_nid, glimpse)
      }
      return byEvent
    },
    clear() {
      visibilityHeld.clear()
      membershipHeld.clear()
      contents.clear()
    },
  }
}

/** Whether the user may see the event, given the state after it. */
export function sees(event: TimelineEvent, user: string, after: StateGlimpse, joinedLater: boolean): boolean {
  const { visibility, membership } = after
  if (event.type === 'm.room.history_visibility' && event.state_key === '') {
    const before = visibilityIn(event.replaces?.content)
    return visibleTo({ visibility: before, visibilityAfter: visibility, membership, joinedLater })
  }
  if (event.type === 'm.room.member' && event.state_key === user) {
    const before = membershipIn(event.replaces?.content)
    const question = { visibility, membership: before, joinedLater }
    return visibleTo(membership === undefined ? question : { ...question, membershipAfter: membership })
  }
  return visibleTo({ visibility, membership, joinedLater })
}

/** From the JSON text of a m.room.history_visibility event's content. */
export function visibilityIn(content: string | undefined): HistoryVisibility {
  return historyVisibilityOf(keyOf(content, 'history_visibility'))
}

/** From the JSON text of a m.room.member event's content. */
export function membershipIn(content: string | undefined): string | undefined {
  const membership = keyOf(content, 'membership')
  return typeof membership === 'string' ? membership : undefined
}

function keyOf(content: string | undefined, key: string): JsonValue | undefined {
  if (content === undefined) return undefined
  const parsed: unknown = JSON.parse(content)
  return isJsonObject(parsed) ? parsed[key] : undefined
}

function rootOf(event: TimelineEvent): number {
  if (event.state_root === undefined) throw new Error(`event ${event.event_id} was not read from the database`)
  return event.state_root
}
