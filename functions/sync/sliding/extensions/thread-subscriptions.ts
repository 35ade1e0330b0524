/** MSC4308: threads that the user follows, or has ceased to follow; the newest changes, and where those before them are.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/4308 */
import { changedThreadSubscriptions } from '../../../../shared/storage/thread-subscriptions.ts'
import { encodeThreadsToken } from '../../../../shared/streams/token.ts'
import { changedThreads } from '../../../../shared/timeline/thread-subscriptions-json.ts'
import type { ExtensionRequests } from '../request.ts'
import type { Extension, ExtensionAnswer, ExtensionContext } from './extension.ts'

const limitMax = 100

type Request = NonNullable<ExtensionRequests['io.element.msc4308.thread_subscriptions']>

export const threadSubscriptionsExtension: Extension<Request> = (context, { limit }) => {
  const { answer, state, since } = context
  const after = state.threadSubscriptions && since ? since.thread_subscriptions : 0
  if (answer.user.threadSubscriptions <= after) return undefined
  return read(context, after, Math.min(Math.max(limit ?? limitMax, 1), limitMax))
}

async function read(
  { answer: { sql, user }, upTo }: ExtensionContext,
  after: number,
  limit: number,
): Promise<ExtensionAnswer | undefined> {
  const range = { after, upTo: upTo.thread_subscriptions }
  // One more tells whether there are any further.
  const found = await changedThreadSubscriptions(sql, user.user_id, { ...range, limit: limit + 1 })
  if (found.length === 0) return undefined
  const further = found[limit]
  const changes = {
    ...changedThreads(found.slice(0, limit)),
    ...(further ? { prev_batch: encodeThreadsToken(further.position) } : {}),
  }
  return { json: JSON.stringify(changes), news: true }
}
