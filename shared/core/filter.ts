/** Filters of clients: their schema, and their compiled form. https://spec.matrix.org/v1.19/client-server-api/#filtering */
import * as v from 'valibot'
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'
import { compileGlob } from './glob.ts'
import { parsePropertyPath } from './property-path.ts'

/** Entries in any one list. */
const listMax = 1000
const list = <S extends v.GenericSchema<unknown, string>>(item: S) =>
  v.optional(v.pipe(v.array(item), v.maxLength(listMax)))
const text = v.pipe(v.string(), v.maxBytes(255))
const userIds = list(v.pipe(text, v.startsWith('@')))
const roomIds = list(v.pipe(text, v.startsWith('!')))

const eventFilterEntries = {
  /** Zero is accepted: clients send it for "none". The reader has the upper bound. */
  limit: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  senders: userIds,
  not_senders: userIds,
  types: list(text),
  not_types: list(text),
}
export const EventFilter = v.looseObject(eventFilterEntries)
export type EventFilter = v.InferOutput<typeof EventFilter>

export const RoomEventFilter = v.looseObject({
  ...eventFilterEntries,
  rooms: roomIds,
  not_rooms: roomIds,
  contains_url: v.optional(v.boolean()),
  lazy_load_members: v.optional(v.boolean()),
  include_redundant_members: v.optional(v.boolean()),
  unread_thread_notifications: v.optional(v.boolean()),
  // https://github.com/matrix-org/matrix-spec-proposals/pull/3874
  'org.matrix.msc3874.rel_types': list(text),
  'org.matrix.msc3874.not_rel_types': list(text),
})
export type RoomEventFilter = v.InferOutput<typeof RoomEventFilter>

export const RoomFilter = v.looseObject({
  rooms: roomIds,
  not_rooms: roomIds,
  include_leave: v.optional(v.boolean()),
  state: v.optional(RoomEventFilter),
  timeline: v.optional(RoomEventFilter),
  ephemeral: v.optional(RoomEventFilter),
  account_data: v.optional(RoomEventFilter),
})
export type RoomFilter = v.InferOutput<typeof RoomFilter>

export const Filter = v.looseObject({
  event_fields: list(v.pipe(v.string(), v.maxBytes(1024))),
  event_format: v.optional(v.picklist(['client', 'federation'])),
  presence: v.optional(EventFilter),
  account_data: v.optional(EventFilter),
  room: v.optional(RoomFilter),
})
export type Filter = v.InferOutput<typeof Filter>

export interface FilterableEvent {
  readonly type: string
  /** Account data and some ephemeral events have none; then no `senders` filter holds them back. */
  readonly sender?: string
  readonly room_id?: string
  /** How it relates to another event; an event that relates to none has none. */
  readonly rel_type?: string | undefined
  /** JSON text, or the object; looked at for `contains_url` alone. */
  readonly content?: string | JsonObject
}

export interface CompiledEventFilter {
  matches(event: FilterableEvent): boolean
  /** Nothing is held back: callers may skip the check. */
  readonly passesAll: boolean
  /** Nothing can pass: callers may skip the reading. */
  readonly passesNone: boolean
}

const everything: CompiledEventFilter = { matches: () => true, passesAll: true, passesNone: false }
const nothing: CompiledEventFilter = { matches: () => false, passesAll: false, passesNone: true }

export function compileEventFilter(filter: EventFilter | RoomEventFilter | undefined): CompiledEventFilter {
  if (!filter) return everything
  const { types, not_types, senders, not_senders } = filter
  const { rooms, not_rooms, contains_url, ...others } = filter as RoomEventFilter
  const { rel_types, not_rel_types } = relationConditions(others)
  if (types?.length === 0 || senders?.length === 0 || rooms?.length === 0 || not_types?.includes('*')) return nothing
  if (rel_types?.length === 0) return nothing

  const tests: ((event: FilterableEvent) => boolean)[] = []
  if (types && !types.includes('*')) {
    const isOfType = anyOf(types)
    tests.push((event) => isOfType(event.type))
  }
  if (not_types?.length) {
    const isOfType = anyOf(not_types)
    tests.push((event) => !isOfType(event.type))
  }
  if (senders) tests.push(within(new Set(senders), (event) => event.sender))
  if (not_senders?.length) tests.push(outside(new Set(not_senders), (event) => event.sender))
  if (rooms) tests.push(within(new Set(rooms), (event) => event.room_id))
  if (not_rooms?.length) tests.push(outside(new Set(not_rooms), (event) => event.room_id))
  if (contains_url !== undefined) tests.push((event) => hasUrl(event.content) === contains_url)
  if (rel_types) tests.push(({ rel_type }) => rel_type !== undefined && rel_types.includes(rel_type))
  if (not_rel_types?.length) tests.push(outside(new Set(not_rel_types), (event) => event.rel_type))

  if (tests.length === 0) return everything
  return { matches: (event) => tests.every((holds) => holds(event)), passesAll: false, passesNone: false }
}

/** What the filter asks of an event's own relation. */
export function relationConditions(filter: RoomEventFilter | undefined) {
  return {
    rel_types: filter?.['org.matrix.msc3874.rel_types'],
    not_rel_types: filter?.['org.matrix.msc3874.not_rel_types'],
  }
}

type Key = (event: FilterableEvent) => string | undefined
function within(set: ReadonlySet<string>, key: Key): (event: FilterableEvent) => boolean {
  return (event) => {
    const value = key(event)
    return value === undefined || set.has(value)
  }
}
function outside(set: ReadonlySet<string>, key: Key): (event: FilterableEvent) => boolean {
  return (event) => {
    const value = key(event)
    return value === undefined || !set.has(value)
  }
}

/** `*` in a type stands for any run of characters; `?` is no wildcard here. */
function anyOf(types: readonly string[]): (type: string) => boolean {
  const plain = new Set(types.filter((type) => !type.includes('*')))
  const globs = types.filter((type) => type.includes('*')).map(compileTypeGlob)
  if (globs.length === 0) return (type) => plain.has(type)
  return (type) => plain.has(type) || globs.some((matches) => matches(type))
}

function compileTypeGlob(pattern: string): (type: string) => boolean {
  if (pattern.includes('?')) {
    // A question mark that is meant literally is swapped for a character that no glob knows.
    const glob = compileGlob(pattern.replaceAll('?', '\uFFFF'))
    return (type) => glob.matches(type.replaceAll('?', '\uFFFF'))
  }
  const glob = compileGlob(pattern)
  return (type) => glob.matches(type)
}

function hasUrl(content: FilterableEvent['content']): boolean {
  if (typeof content === 'string') {
    if (!content.includes('"url"')) return false
    const parsed: unknown = JSON.parse(content)
    return isJsonObject(parsed) && typeof parsed.url === 'string'
  }
  return content !== undefined && typeof content.url === 'string'
}

/** `rooms` and `not_rooms` of the filter's `room` part: applied before the filters within it. */
export function compileRoomFilter(filter: RoomFilter | undefined): (room_id: string) => boolean {
  const only = filter?.rooms && new Set(filter.rooms)
  const not = filter?.not_rooms?.length ? new Set(filter.not_rooms) : undefined
  if (!only && !not) return () => true
  return (room_id) => (!only || only.has(room_id)) && !not?.has(room_id)
}

/** Keeps of an event what `event_fields` names. `null`: every field is kept. */
export function compileEventFields(
  event_fields: readonly string[] | undefined,
): ((event: JsonObject) => JsonObject) | null {
  if (!event_fields) return null
  const tree: FieldTree = new Map()
  for (const path of event_fields) addPath(tree, parsePropertyPath(path))
  return (event) => pick(event, tree)
}

type FieldTree = Map<string, FieldTree | 'whole'>

function addPath(tree: FieldTree, keys: readonly string[]): void {
  let node = tree
  for (const [i, key] of keys.entries()) {
    const below = node.get(key)
    if (below === 'whole') return
    if (i === keys.length - 1) {
      node.set(key, 'whole')
    } else if (below) {
      node = below
    } else {
      const made: FieldTree = new Map()
      node.set(key, made)
      node = made
    }
  }
}

function pick(object: JsonObject, tree: FieldTree): JsonObject {
  const kept: [string, JsonValue][] = []
  for (const [key, below] of tree) {
    const value = Object.hasOwn(object, key) ? object[key] : undefined
    if (value === undefined) continue
    if (below === 'whole') kept.push([key, value])
    else if (isJsonObject(value)) {
      const inner = pick(value, below)
      if (Object.keys(inner).length > 0) kept.push([key, inner])
    }
  }
  return Object.fromEntries(kept)
}
