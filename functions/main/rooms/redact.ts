/** Takes effect of a redaction: the target's stored form, and what the room in memory holds of it.
 *  https://spec.matrix.org/v1.19/client-server-api/#redactions */

import { actionLevel, powerLevelOf } from '../../../shared/core/power-levels.ts'
import { redactContent } from '../../../shared/core/redaction.ts'
import { canonicalJsonFor } from '../../../shared/matrix/canonical-json.ts'
import { parseText } from '../../../shared/matrix/engine-json.ts'
import type { EventId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { fromPgText, type MainSql } from '../../../shared/storage/sql.ts'
import { stateMapKey } from '../persist/state-types.ts'
import type { Writes } from '../persist/writes.ts'
import { authStateOf, type Room, type StateEntry } from './room.ts'
import { isSummaryType, summarise } from './room-summary.ts'

export interface RedactionTarget {
  readonly event_nid: number
  readonly event_id: EventId
  readonly type: string
  readonly sender: UserId
  readonly envelope: string
  readonly content: string
  readonly redacted: boolean
  /** Rejected or soft-failed. */
  readonly hidden: boolean
}

export async function redactionTarget(
  sql: MainSql,
  room: Room,
  event_id: EventId,
): Promise<RedactionTarget | undefined> {
  const [row] = await sql<RedactionTarget[]>`
    select event_nid, event_id, type, sender, envelope, content, redacted_by_nid is not null as redacted, flags <> 0 as hidden
    from events where event_id = ${event_id} and room_nid = ${room.room_nid}`
  return row && { ...row, type: fromPgText(row.type), sender: fromPgText(row.sender) as UserId }
}

/** Whether `sender` reaches the room's redact level. The power levels must have been loaded. */
export function hasRedactLevel(room: Room, sender: UserId): boolean {
  const state = authStateOf(room)
  return powerLevelOf(room.rules, state, sender) >= actionLevel(room.rules, state, 'redact')
}

/** undefined: there is nothing to redact (yet). `apply` changes the room in memory. */
export async function redactionWrites(
  deps: { readonly sql: MainSql },
  room: Room,
  redacts: EventId,
  redacted_by_nid: number,
): Promise<{ writes: Writes; summaryChanged: boolean; apply(): void } | undefined> {
  const target = await redactionTarget(deps.sql, room, redacts)
  if (!target || target.redacted) return undefined
  return applyTo(room, target, redacted_by_nid)
}

export function applyTo(
  room: Room,
  target: Omit<RedactionTarget, 'redacted' | 'hidden' | 'sender'>,
  redacted_by_nid: number,
): { writes: Writes; summaryChanged: boolean; apply(): void } {
  const kept = redactContent(room.rules, target.type, parseText(target.content) as JsonObject)
  const content = canonicalJsonFor(room.rules, kept)
  const envelope = redactedEnvelope(room, target.envelope)
  const current = currentEntry(room, target)
  const summaryChanged = current?.key === stateMapKey(target.type, '') && isSummaryType(target.type)
  return {
    writes: {
      redactions: [{ event_nid: target.event_nid, content, envelope, redacted_by_nid }],
      invalidations: [{ cache: 'event', key: target.event_id }],
      ...(current && target.type === 'm.room.member'
        ? {
            also: (tx) => [
              tx`update memberships set display_name = null, avatar_url = null
                where room_nid = ${room.room_nid} and event_nid = ${target.event_nid}`,
            ],
          }
        : undefined),
    },
    summaryChanged,
    apply() {
      if (!current) return
      const { entry } = current
      if (entry.loaded) entry.loaded = { pdu: { ...entry.loaded.pdu, content: kept }, content }
      if (summaryChanged) summarise(room.summary, target.type, kept)
      if (target.type === 'm.room.member') {
        const user_id = current.key.slice('m.room.member\0'.length) as UserId
        if (room.local_members.has(user_id)) {
          room.local_members.set(user_id, { user_id, display_name: undefined })
          room.push?.memberJoined(user_id, undefined)
        }
      }
    },
  }
}

/** The target's place in the current state, where it has one. */
function currentEntry(
  room: Room,
  target: { readonly event_id: EventId; readonly type: string; readonly envelope: string },
): { key: string; entry: StateEntry } | undefined {
  const { state_key } = parseText(target.envelope) as { state_key?: string }
  if (state_key === undefined) return undefined
  const key = stateMapKey(target.type, state_key)
  const entry = room.state.get(key)
  return entry?.event_id === target.event_id ? { key, entry } : undefined
}

/** `content` is stored apart; of the rest the room version's keys stay. */
function redactedEnvelope(room: Room, envelope: string): string {
  const wire = parseText(envelope) as JsonObject
  const kept: JsonObject = {}
  for (const key of Object.keys(wire)) if (room.rules.redaction.keys.has(key)) kept[key] = wire[key] ?? null
  return canonicalJsonFor(room.rules, kept)
}
