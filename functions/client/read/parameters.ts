/** What the reading routes take in their query strings. */
import * as v from 'valibot'
import { compileEventFilter, RoomEventFilter, relationConditions } from '../../../shared/core/filter.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { parseJson } from '../../../shared/matrix/parse-json.ts'
import type { Direction } from '../../../shared/storage/events.ts'
import type { PageFilter } from '../../../shared/timeline/timeline-page.ts'

/** A number of items: what is left out is `standard`, what is beyond `most` is `most`. */
export function limitOf(text: string | undefined, { standard, most }: { standard: number; most: number }): number {
  if (text === undefined || text === '') return standard
  if (!/^\d{1,15}$/.test(text)) throw new MatrixError('M_INVALID_PARAM', 'Query parameter limit must be a whole number')
  return Math.min(Number(text), most)
}

/** Throws M_MISSING_PARAM where there is no `standard`. */
export function directionOf(text: string | undefined, standard?: Direction): Direction {
  if (text === 'b' || text === 'f') return text
  if (text !== undefined) throw new MatrixError('M_INVALID_PARAM', 'Query parameter dir must be b or f')
  if (standard === undefined) throw new MatrixError('M_MISSING_PARAM', 'Query parameter dir is missing')
  return standard
}

export function flagOf(text: string | undefined, name: string): boolean {
  if (text === undefined || text === 'false') return false
  if (text === 'true') return true
  throw new MatrixError('M_INVALID_PARAM', `Query parameter ${name} must be true or false`)
}

const texts = v.optional(v.array(v.string()))
const QueryFilter = v.looseObject({
  ...RoomEventFilter.entries,
  related_by_senders: texts,
  related_by_rel_types: texts,
})

export interface ParsedFilter {
  /** undefined: every event passes. */
  readonly filter: PageFilter | undefined
  readonly lazyLoadMembers: boolean
}

/** From the JSON text of a RoomEventFilter.
 *  https://spec.matrix.org/v1.19/client-server-api/#post_matrixclientv3useruseridfilter_request_roomeventfilter */
export function filterOf(text: string | undefined): ParsedFilter {
  if (text === undefined || text === '') return { filter: undefined, lazyLoadMembers: false }
  const parsed = v.safeParse(QueryFilter, parseJson(text))
  if (!parsed.success) {
    throw new MatrixError('M_BAD_JSON', `Query parameter filter is no filter: ${v.summarize(parsed.issues)}`)
  }
  const { types, not_types, senders, not_senders, related_by_senders, related_by_rel_types, lazy_load_members } =
    parsed.output
  const compiled = compileEventFilter(parsed.output)
  const passesAll = compiled.passesAll && !related_by_senders && !related_by_rel_types
  const related = { related_by_senders, related_by_rel_types }
  const conditions = { types, not_types, senders, not_senders, ...relationConditions(parsed.output), ...related }
  return { filter: passesAll ? undefined : { conditions, compiled }, lazyLoadMembers: lazy_load_members === true }
}
