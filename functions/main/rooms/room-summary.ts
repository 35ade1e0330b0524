/** What lists and previews of a room show, kept beside its state. */
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import type { RoomSummary } from './room.ts'

type TextField = Exclude<keyof RoomSummary, 'joined_members' | 'invited_members'>

/** State type (with an empty state key) -> fields of the summary, and the content key that each is taken from. */
const fields: Readonly<Record<string, readonly (readonly [TextField, string])[]>> = {
  'm.room.create': [['room_type', 'type']],
  'm.room.name': [['name', 'name']],
  'm.room.topic': [['topic', 'topic']],
  'm.room.canonical_alias': [['canonical_alias', 'alias']],
  'm.room.avatar': [['avatar_url', 'url']],
  'm.room.join_rules': [['join_rule', 'join_rule']],
  'm.room.history_visibility': [['history_visibility', 'history_visibility']],
  'm.room.guest_access': [['guest_access', 'guest_access']],
  'm.room.encryption': [['encryption', 'algorithm']],
}

export function isSummaryType(type: string): boolean {
  return Object.hasOwn(fields, type)
}

/** Takes over what the state event says; an empty or wrong value counts as none. */
export function summarise(summary: RoomSummary, type: string, content: JsonObject | undefined): void {
  if (!Object.hasOwn(fields, type)) return
  for (const [field, key] of fields[type] ?? []) {
    const value = content?.[key]
    summary[field] = typeof value === 'string' && value !== '' ? value : undefined
  }
}
