/** MSC3884: whose devices changed, and how many keys are left.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/3884 */
import { deviceListsJson } from '../../device-lists.ts'
import { neighbours } from '../../neighbours.ts'
import { makePlan } from '../../plan.ts'
import { allSoon, type Soon, soon } from '../../soon.ts'
import type { ExtensionRequests } from '../request.ts'
import type { Extension, ExtensionContext } from './extension.ts'

export const e2eeExtension: Extension<NonNullable<ExtensionRequests['e2ee']>> = (context) => {
  const { answer, since, upTo } = context
  const counts = answer.user.keyCountsOf(answer.device_id)
  return soon(
    allSoon([counts.json(answer.sql, answer.user.user_id, answer.device_id), deviceLists(context)]),
    ([keys, lists]) => ({
      json: `{${keys}${lists}}`,
      news:
        lists !== '' ||
        (since !== undefined && counts.position > since.key_counts && counts.position <= upTo.key_counts),
    }),
  )
}

/** As GET /sync tells it: of everybody with whom the user shares a room, whatever the connection looks at. */
function deviceLists({ deps, answer, since, upTo }: ExtensionContext): Soon<string> {
  if (!since) return ''
  const plan = makePlan(deps.live, deps.sql, answer.user, since, upTo, { filter: answer.filter, fullState: false })
  return soon(plan, (made) => soon(neighbours(answer, made), (people) => deviceListsJson(answer, made, people)))
}
