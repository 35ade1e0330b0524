/** MSC3884: whose devices changed, and how many keys are left. The counts plug in as a `KeyCounts`.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/3884 */
import type { Requester } from '../../../../shared/auth/requester.ts'
import { deviceListsJson } from '../../device-lists.ts'
import { neighbours } from '../../neighbours.ts'
import { makePlan } from '../../plan.ts'
import { allSoon, type Soon, soon } from '../../soon.ts'
import type { ExtensionRequests } from '../request.ts'
import type { Extension, ExtensionContext } from './extension.ts'

export interface KeyCounts {
  /** Of the requester's device: JSON of `device_one_time_keys_count` and of `device_unused_fallback_key_types`; `changed` if
   *  they may be others than at `since`, which is when a waiting client is told. */
  of(
    requester: Requester,
    since: ExtensionContext['since'],
  ): Soon<{ readonly oneTime: string; readonly fallback: string; readonly changed: boolean }>
}

/** Of a server on which nobody can upload any. */
export const noKeys: KeyCounts = { of: () => ({ oneTime: '{}', fallback: '[]', changed: false }) }

export const e2eeExtension: Extension<NonNullable<ExtensionRequests['e2ee']>> = (context) => {
  const { deps, requester, since } = context
  return soon(allSoon([deps.keyCounts.of(requester, since), deviceLists(context)]), ([counts, lists]) => ({
    json: `{"device_one_time_keys_count":${counts.oneTime},"device_unused_fallback_key_types":${counts.fallback}${lists}}`,
    news: counts.changed || lists !== '',
  }))
}

/** As GET /sync tells it: of everybody with whom the user shares a room, whatever the connection looks at. */
function deviceLists({ deps, answer, since, upTo }: ExtensionContext): Soon<string> {
  if (!since) return ''
  const plan = makePlan(deps.live, deps.sql, answer.user, since, upTo, { filter: answer.filter, fullState: false })
  return soon(plan, (made) => soon(neighbours(answer, made), (people) => deviceListsJson(answer, people)))
}
