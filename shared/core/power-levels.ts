/** Who may do what: power levels as the room's state has them, defaults filled in.
 *  https://spec.matrix.org/v1.19/client-server-api/#mroompower_levels */
import type { UserId } from '../matrix/ids.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'
import type { Pdu } from '../matrix/pdu.ts'
import type { RoomRules } from './room-versions.ts'

/** Room state as the rules ask for it. */
export interface AuthState {
  get(type: string, state_key: string): Pdu | undefined
}

const defaultLevels = {
  users_default: 0,
  events_default: 0,
  state_default: 50,
  ban: 50,
  kick: 50,
  redact: 50,
  invite: 0,
} as const
/** The levels that are plain properties of `m.room.power_levels`. */
export type LevelName = keyof typeof defaultLevels
export const levelNames = Object.keys(defaultLevels) as readonly LevelName[]

/** The level of the room's creator while the room has no power levels event. */
const creatorLevelWithoutEvent = 100
const defaultNotificationLevel = 50

/** A user's power; `Infinity` for the creators of a room whose version gives them that. */
export function powerLevelOf(rules: RoomRules, state: AuthState, user_id: string): number {
  if (rules.creatorsHaveInfinitePower) {
    const create = state.get('m.room.create', '')
    if (create !== undefined && isCreator(rules, create, user_id)) return Number.POSITIVE_INFINITY
  }
  const content = levelsIn(state)
  if (content !== undefined) {
    return levelFrom(rules, entryOf(content.users, user_id)) ?? levelIn(rules, content, 'users_default')
  }
  const create = state.get('m.room.create', '')
  return create !== undefined && isCreator(rules, create, user_id)
    ? creatorLevelWithoutEvent
    : defaultLevels.users_default
}

/** The level that sending an event of this type takes. */
export function requiredLevel(rules: RoomRules, state: AuthState, type: string, isState: boolean): number {
  const content = levelsIn(state)
  const fallback = isState ? 'state_default' : 'events_default'
  return levelFrom(rules, entryOf(content?.events, type)) ?? levelIn(rules, content, fallback)
}

/** The *invite level*, *kick level*, *ban level* or *redact level*, or one of the defaults. */
export function actionLevel(rules: RoomRules, state: AuthState, name: LevelName): number {
  return levelIn(rules, levelsIn(state), name)
}

/** The level that setting off a notification such as `room` takes. */
export function notificationLevel(rules: RoomRules, state: AuthState, key: string): number {
  return levelFrom(rules, entryOf(levelsIn(state)?.notifications, key)) ?? defaultNotificationLevel
}

/** Whether the user made the room, or is one of those whom the create event puts beside its sender. */
export function isCreator(rules: RoomRules, create: Pdu, user_id: string): boolean {
  if (user_id === creatorOf(rules, create)) return true
  if (!rules.creatorsHaveInfinitePower) return false
  const additional = create.content.additional_creators
  return Array.isArray(additional) && additional.includes(user_id)
}

/** The one user who made the room: the create event's sender, or in old versions what its content says. */
export function creatorOf(rules: RoomRules, create: Pdu): UserId | undefined {
  if (rules.implicitRoomCreator) return create.sender
  return typeof create.content.creator === 'string' ? (create.content.creator as UserId) : undefined
}

/** One level, as the version lets it be written; undefined when it is absent or is no level.
 *  https://spec.matrix.org/v1.19/rooms/v1/#mroompower_levels-events-accept-values-as-strings */
export function levelFrom(rules: RoomRules, value: JsonValue | undefined): number | undefined {
  if (typeof value === 'number') {
    if (Number.isInteger(value)) return value
    return rules.floatPowerLevels && Number.isFinite(value) ? Math.trunc(value) : undefined
  }
  if (typeof value !== 'string' || rules.integerPowerLevels) return undefined
  return /^\s*[+-]?[0-9]+\s*$/.test(value) ? finite(Number.parseInt(value.trim(), 10)) : undefined
}

function finite(level: number): number | undefined {
  return Number.isFinite(level) ? level : undefined
}

function levelsIn(state: AuthState): JsonObject | undefined {
  return state.get('m.room.power_levels', '')?.content
}

function levelIn(rules: RoomRules, content: JsonObject | undefined, name: LevelName): number {
  return levelFrom(rules, content?.[name]) ?? defaultLevels[name]
}

function entryOf(map: JsonValue | undefined, key: string): JsonValue | undefined {
  return isJsonObject(map) && Object.hasOwn(map, key) ? map[key] : undefined
}
