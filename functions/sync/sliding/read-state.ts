/** The state that an answer tells: all that is asked for of rooms that are new to the client, what changed of the others. */
import { isJsonObject } from '../../../shared/matrix/json-value.ts'
import { type RoomRange, type StateRow, stateBetween } from '../../../shared/storage/sync-rooms.ts'
import { type StateQuestion, selectedState } from '../../../shared/storage/sync-sliding.ts'
import type { TimelineEvent } from '../../../shared/timeline/timeline-event.ts'
import type { CachedEvent } from '../live-room.ts'
import { allSoon, type Soon, soon } from '../soon.ts'
import type { StateEvent } from '../timelines.ts'
import type { ReadContext, ReadRoom } from './read-rooms.ts'
import { isRequired, selectionOf } from './required-state.ts'

const naming = [
  { type: 'm.room.name', state_key: '' },
  { type: 'm.room.avatar', state_key: '' },
]

/** Fills in `state`, `name` and `avatar`. */
export function readState({ sql }: ReadContext, rooms: readonly ReadRoom[]): Soon<void> {
  const whole: ReadRoom[] = []
  const missing: ReadRoom[] = []
  for (const read of rooms) {
    const { part } = read
    if (!part.timeline) continue
    if (part.initial || part.restated) whole.push(read)
    if (part.initial) continue
    const changes = changesInMemory(read)
    if (changes) addChanges(read, changes)
    else missing.push(read)
  }
  if (whole.length + missing.length === 0) return undefined
  const read = allSoon([
    whole.length > 0 ? selectedState(sql, questionsFor(whole)) : new Map<number, StateRow[]>(),
    missing.length > 0 ? stateBetween(sql, missing.map(rangeOf)) : new Map<number, StateRow[]>(),
  ])
  return soon(read, ([all, changed]) => {
    for (const room of missing) addChanges(room, changed.get(nidOf(room)) ?? [])
    for (const room of whole) addWhole(room, all.get(nidOf(room)) ?? [])
  })
}

function nidOf({ part }: ReadRoom): number {
  return part.selected.membership.room_nid
}

function rangeOf(read: ReadRoom): RoomRange {
  return { room_nid: nidOf(read), after: read.part.after, upTo: read.part.timeline?.upTo ?? 0 }
}

/** One question for all rooms of which the same is asked. */
function questionsFor(rooms: readonly ReadRoom[]): StateQuestion[] {
  const byConfig = new Map<
    string,
    { question: Omit<StateQuestion, 'rooms'>; rooms: StateQuestion['rooms'][number][] }
  >()
  for (const read of rooms) {
    const { required } = read.part.selected.config
    let group = byConfig.get(required.text)
    if (!group) {
      const selection = selectionOf(required)
      group = { question: { ...selection, pairs: [...selection.pairs, ...naming] }, rooms: [] }
      byConfig.set(required.text, group)
    }
    group.rooms.push({ room_nid: nidOf(read), before: (read.part.timeline?.upTo ?? 0) + 1 })
  }
  return [...byConfig.values()].map(({ question, rooms: asked }) => ({ ...question, rooms: asked }))
}

/** The state events after what was told, oldest first; undefined where the memory does not reach back that far. */
function changesInMemory({ part, section }: ReadRoom): readonly StateEvent[] | undefined {
  const { timeline, after, expanded } = part
  if (!timeline || !section) return []
  if (timeline.ownEventOnly) return section.events.map(({ event }) => event).filter(isState)
  if (after >= timeline.upTo) return []
  const { room } = timeline
  if (!room) return undefined
  if (room.events <= after) return []
  const cached: readonly CachedEvent[] | undefined =
    !expanded && section.cached ? section.cached : room.timelineFrom <= after ? room.timeline : undefined
  return cached
    ?.map(({ event }) => event)
    .filter(isState)
    .filter(({ position }) => position > after && position <= timeline.upTo)
}

function isState(event: TimelineEvent): event is TimelineEvent & { readonly state_key: string } {
  return event.state_key !== undefined
}

function addChanges(read: ReadRoom, changes: readonly StateEvent[]): void {
  const { part, section } = read
  const { required } = part.selected.config
  const last = new Map<string, StateEvent>()
  for (const event of changes) last.set(`${event.type}\0${event.state_key}`, event)
  // Across a gap the client forgets the members that it has.
  const members = required.lazyMembers && !section?.limited
  for (const event of last.values()) {
    const { type, state_key } = event
    if (state_key === '' && type === 'm.room.name') read.name = textIn(event, 'name')
    if (state_key === '' && type === 'm.room.avatar') read.avatar = textIn(event, 'url')
    if ((members && type === 'm.room.member') || isRequired(required, type, state_key)) read.state.push(event)
  }
}

function addWhole(read: ReadRoom, rows: readonly StateRow[]): void {
  const { initial, sent, selected, restated } = read.part
  const { required } = selected.config
  const known = new Set(read.state.map(({ event_nid }) => event_nid))
  for (const row of rows) {
    const { type, state_key } = row
    if (initial && state_key === '' && type === 'm.room.name') read.name = textIn(row, 'name')
    if (initial && state_key === '' && type === 'm.room.avatar') read.avatar = textIn(row, 'url')
    if (!isRequired(required, type, state_key) || known.has(row.event_nid)) continue
    // What the client has is not sent again when it asks for more.
    if (restated && sent && isRequired(sent.required, type, state_key)) continue
    read.state.push(row)
  }
}

/** null: there is none. */
function textIn({ content }: { readonly content: string }, key: string): string | null {
  const parsed: unknown = JSON.parse(content)
  const value = isJsonObject(parsed) ? parsed[key] : undefined
  return typeof value === 'string' && value !== '' ? value : null
}
