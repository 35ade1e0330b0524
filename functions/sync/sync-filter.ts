/** The filter of a sync, compiled. https://spec.matrix.org/v1.19/client-server-api/#filtering */
import { LRUCache } from 'lru-cache'
import * as v from 'valibot'
import {
  type CompiledEventFilter,
  compileEventFields,
  compileEventFilter,
  compileRoomFilter,
  Filter,
  relationConditions,
} from '../../shared/core/filter.ts'
import type { UserId } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { storedFilter } from '../../shared/storage/filters.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import type { TimelineFilter } from '../../shared/storage/sync-rooms.ts'

const timelineLimitDefault = 10
export const timelineLimitMax = 500
/** Compiled filters that are kept, in characters of their JSON. */
const filterCacheMax = 8_000_000
const filterBytesMax = 65_536

export interface SyncFilter {
  readonly room: (room_id: string) => boolean
  /** No room is left out. */
  readonly allRooms: boolean
  readonly includeLeave: boolean
  readonly timeline: CompiledEventFilter
  readonly timelineLimit: number
  /** What the database can check of `timeline`. */
  readonly timelineSql: TimelineFilter
  readonly state: CompiledEventFilter
  readonly lazyMembers: boolean
  readonly redundantMembers: boolean
  readonly threadCounts: boolean
  readonly ephemeral: CompiledEventFilter
  readonly roomAccountData: CompiledEventFilter
  readonly accountData: CompiledEventFilter
  readonly presence: CompiledEventFilter
  /** Keeps of an event what `event_fields` names; null: everything. */
  readonly fields: ((event: JsonObject) => JsonObject) | null
  /** Events are to be shown as servers exchange them. */
  readonly federationFormat: boolean
}

function compile(filter: Filter): SyncFilter {
  const { room } = filter
  const timeline = room?.timeline
  return {
    room: compileRoomFilter(room),
    allRooms: room?.rooms === undefined && room?.not_rooms === undefined,
    includeLeave: room?.include_leave ?? false,
    timeline: compileEventFilter(timeline),
    timelineLimit: Math.min(timeline?.limit ?? timelineLimitDefault, timelineLimitMax),
    timelineSql: {
      types: timeline?.types,
      not_types: timeline?.not_types,
      senders: timeline?.senders,
      not_senders: timeline?.not_senders,
      ...relationConditions(timeline),
    },
    state: compileEventFilter(room?.state),
    lazyMembers: room?.state?.lazy_load_members ?? false,
    redundantMembers: room?.state?.include_redundant_members ?? false,
    threadCounts: timeline?.unread_thread_notifications ?? false,
    ephemeral: compileEventFilter(room?.ephemeral),
    roomAccountData: compileEventFilter(room?.account_data),
    accountData: compileEventFilter(filter.account_data),
    presence: compileEventFilter(filter.presence),
    fields: compileEventFields(filter.event_fields),
    federationFormat: filter.event_format === 'federation',
  }
}

export const noFilter: SyncFilter = compile({})

/** Compiled filters by user and parameter: a stored filter never changes. */
export class SyncFilters {
  private readonly sql: ReadSql
  private readonly compiled = new LRUCache<string, SyncFilter>({ maxSize: filterCacheMax })

  constructor(sql: ReadSql) {
    this.sql = sql
  }

  /** `parameter` is a filter's id or its JSON; throws M_INVALID_PARAM or M_NOT_JSON for what is neither. */
  get(user: UserId, parameter: string | undefined): SyncFilter | Promise<SyncFilter> {
    if (parameter === undefined || parameter === '') return noFilter
    const inline = parameter.startsWith('{')
    const key = inline ? parameter : `${user}\0${parameter}`
    const known = this.compiled.get(key)
    if (known) return known
    if (!inline) return this.load(user, parameter, key)
    return this.remember(key, parameter)
  }

  private async load(user: UserId, id: string, key: string): Promise<SyncFilter> {
    const stored = await storedFilter(this.sql, user, id)
    if (stored === undefined) throw new MatrixError('M_INVALID_PARAM', 'There is no such filter')
    return this.remember(key, stored)
  }

  private remember(key: string, json: string): SyncFilter {
    if (json.length > filterBytesMax) throw new MatrixError('M_TOO_LARGE', 'The filter is too large')
    const parsed = v.safeParse(Filter, parse(json))
    if (!parsed.success) throw new MatrixError('M_INVALID_PARAM', `Not a filter: ${v.summarize(parsed.issues)}`)
    const filter = compile(parsed.output)
    this.compiled.set(key, filter, { size: key.length + json.length + 200 })
    return filter
  }
}

function parse(json: string): JsonObject {
  try {
    const value: unknown = JSON.parse(json)
    if (isJsonObject(value)) return value
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    throw new MatrixError('M_NOT_JSON', 'The filter is not JSON')
  }
  throw new MatrixError('M_INVALID_PARAM', 'The filter is not an object')
}
