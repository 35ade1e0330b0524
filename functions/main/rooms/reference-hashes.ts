/** In room versions 1 and 2 an event names others together with their reference hashes.
 *  https://spec.matrix.org/v1.19/rooms/v1/#event-format */

import { LRUCache } from 'lru-cache'
import { parseText } from '../../../shared/matrix/engine-json.ts'
import { wireFromParts } from '../../../shared/matrix/event-format.ts'
import type { EventRules } from '../../../shared/matrix/event-rules.ts'
import { referenceHash } from '../../../shared/matrix/hashes.ts'
import type { EventId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

interface StoredTexts {
  readonly event_id: EventId
  readonly envelope: string
  readonly content: string
}

export interface ReferenceHashes {
  of(rules: EventRules, ids: readonly EventId[]): Promise<Map<EventId, string>>
  /** Of an event that is not stored yet. */
  remember(rules: EventRules, event: StoredTexts): void
}

const kept = 20_000

export function createReferenceHashes(sql: MainSql): ReferenceHashes {
  const hashes = new LRUCache<EventId, string>({ max: kept })
  // Redaction takes nothing that the hash covers, so the stored form gives the same as the event once sent.
  const remember = (rules: EventRules, { event_id, envelope, content }: StoredTexts) => {
    hashes.set(event_id, referenceHash(rules, parseText(wireFromParts(envelope, content)) as JsonObject))
  }
  return {
    remember,
    async of(rules, ids) {
      const missing = ids.filter((id) => !hashes.has(id))
      if (missing.length > 0) {
        const rows = await sql<StoredTexts[]>`
          select event_id, envelope, content from events where event_id = any(${sql.array(missing, 25)}::text[])`
        for (const row of rows) remember(rules, row)
      }
      const found = new Map<EventId, string>()
      for (const id of ids) {
        const hash = hashes.get(id)
        if (hash !== undefined) found.set(id, hash)
      }
      return found
    },
  }
}
