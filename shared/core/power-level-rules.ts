/** The authorisation rules of m.room.power_levels: nobody gives or takes what is above their own power.
 *  https://spec.matrix.org/v1.19/rooms/v12/#authorization-rules rule 10 (9 in versions 6 to 11) */
import { isJsonObject, type JsonObject, type JsonValue } from '../matrix/json-value.ts'
import type { Pdu } from '../matrix/pdu.ts'
import { isUserId } from '../matrix/user-id.ts'
import { type AuthVerdict, allow, reject } from './auth-verdict.ts'
import { type AuthState, isCreator, levelFrom, levelNames } from './power-levels.ts'
import type { RoomRules, RuleName } from './room-versions.ts'

/** `level` is the sender's power in this state. Never throws. */
export function checkPowerLevels(
  rules: RoomRules,
  pdu: Pdu,
  state: AuthState,
  create: Pdu,
  level: number,
): AuthVerdict {
  const { content } = pdu
  const misshapen = checkShape(rules, content, create)
  if (misshapen !== undefined) return misshapen
  // Levels under another state key rule nothing: deployed servers do not compare them with those that do.
  if (pdu.state_key !== undefined && pdu.state_key !== '') return allow
  const before = state.get('m.room.power_levels', '')?.content
  if (before === undefined) return allow
  const unreadable = checkReadable(rules, content)
  if (unreadable !== undefined) return unreadable

  for (const name of levelNames) {
    const [old, now] = [levelFrom(rules, before[name]), levelFrom(rules, content[name])]
    if (old === now) continue
    if (old !== undefined && old > level) return above(rules, 'levelsProperties', '1', name)
    if (now !== undefined && now > level) return above(rules, 'levelsProperties', '2', name)
  }

  const changes = comparedMaps(rules).flatMap((map) => changedLevels(rules, before[map], content[map]))
  for (const { key, old } of changes) {
    if (old !== undefined && old > level) return above(rules, 'levelsEntriesBefore', '1', key)
  }
  for (const { key, now } of changes) {
    if (now !== undefined && now > level) return above(rules, 'levelsEntriesAfter', '1', key)
  }

  const users = changedLevels(rules, before.users, content.users)
  for (const { key, old } of users) {
    if (key !== pdu.sender && old !== undefined && old >= level) return above(rules, 'levelsUsersBefore', '1', key)
  }
  for (const { key, now } of users) {
    if (now !== undefined && now > level) return above(rules, 'levelsUsersAfter', '1', key)
  }
  return allow
}

function above(rules: RoomRules, rule: RuleName, step: string, what: string): AuthVerdict {
  return reject(rules, rule, step, `the level of ${what} is not within the sender's power`)
}

function checkShape(rules: RoomRules, content: JsonObject, create: Pdu): AuthVerdict | undefined {
  if (rules.integerPowerLevels) {
    for (const name of levelNames) {
      if (content[name] !== undefined && !Number.isInteger(content[name])) {
        return reject(rules, 'levelsIntegers', '', `${name} is not an integer`)
      }
    }
    for (const map of ['events', 'notifications']) {
      if (content[map] !== undefined && !isMapToLevels(rules, content[map])) {
        return reject(rules, 'levelsMaps', '', `${map} is not an object of integers`)
      }
    }
  }
  const { users } = content
  if (users === undefined) return undefined // everybody has users_default then
  if (!isMapToLevels(rules, users) || !Object.keys(users).every(isUserId)) {
    return reject(rules, 'levelsUsers', '', 'users is not an object from user ids to levels')
  }
  if (rules.creatorsHaveInfinitePower) {
    const creator = Object.keys(users).find((user) => isCreator(rules, create, user))
    if (creator !== undefined) return reject(rules, 'levelsCreators', '', `${creator} is a creator of the room`)
  }
  return undefined
}

/** Versions that do not ask for integers still have to read the levels to compare them; deployed servers drop the event
 *  when they cannot. */
function checkReadable(rules: RoomRules, content: JsonObject): AuthVerdict | undefined {
  for (const name of levelNames) {
    if (content[name] !== undefined && levelFrom(rules, content[name]) === undefined) {
      return reject(rules, 'levelsProperties', '', `${name} is no level`)
    }
  }
  for (const map of comparedMaps(rules)) {
    if (content[map] !== undefined && !isMapToLevels(rules, content[map])) {
      return reject(rules, 'levelsEntriesAfter', '', `${map} is not an object of levels`)
    }
  }
  return undefined
}

function comparedMaps(rules: RoomRules): readonly string[] {
  return rules.checksNotificationLevels ? ['events', 'notifications'] : ['events']
}

function isMapToLevels(rules: RoomRules, value: JsonValue): value is JsonObject {
  return isJsonObject(value) && Object.values(value).every((level) => levelFrom(rules, level) !== undefined)
}

interface LevelChange {
  readonly key: string
  /** Undefined where the entry was added. */
  readonly old: number | undefined
  /** Undefined where the entry was removed. */
  readonly now: number | undefined
}

/** Entries that were added, changed or removed, in the order of the old map, then of the new. */
function changedLevels(rules: RoomRules, before: JsonValue | undefined, after: JsonValue | undefined): LevelChange[] {
  const olds = levelsOf(rules, before)
  const nows = levelsOf(rules, after)
  const changes: LevelChange[] = []
  for (const [key, old] of olds) {
    const now = nows.get(key)
    if (now !== old) changes.push({ key, old, now })
  }
  for (const [key, now] of nows) if (!olds.has(key)) changes.push({ key, old: undefined, now })
  return changes
}

function levelsOf(rules: RoomRules, value: JsonValue | undefined): Map<string, number> {
  const levels = new Map<string, number>()
  if (!isJsonObject(value)) return levels
  for (const [key, entry] of Object.entries(value)) {
    const level = levelFrom(rules, entry)
    if (level !== undefined) levels.set(key, level)
  }
  return levels
}
