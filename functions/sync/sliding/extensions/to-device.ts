/** MSC3885: messages to this device. Where they come from plugs in as a `ToDeviceInbox`.
 *  https://github.com/matrix-org/matrix-spec-proposals/pull/3885 */
import type { Requester } from '../../../../shared/auth/requester.ts'
import { type Soon, soon } from '../../soon.ts'
import type { ExtensionRequests } from '../request.ts'
import type { Extension } from './extension.ts'

const limitMax = 100
const limitDefault = 100

export interface ToDeviceQuestion {
  readonly requester: Requester
  /** The `next_batch` of an answer that the client has: what came before it may be deleted. Throws M_INVALID_PARAM for what
   *  was never one. */
  readonly since: string | undefined
  readonly limit: number
}

export interface ToDeviceInbox {
  /** Events as JSON, oldest first. `next_batch` is after the last of them, and where there are none as it was given. */
  read(question: ToDeviceQuestion): Soon<{ readonly events: readonly string[]; readonly next_batch: string }>
}

/** Of a server on which nobody can send any. */
export const emptyInbox: ToDeviceInbox = {
  read: ({ since }) => ({ events: [], next_batch: since ?? '0' }),
}

export const toDeviceExtension: Extension<NonNullable<ExtensionRequests['to_device']>> = (
  { deps, requester },
  { since, limit },
) => {
  const question = { requester, since: since ?? undefined, limit: Math.min(limit ?? limitDefault, limitMax) }
  return soon(deps.inbox.read(question), ({ events, next_batch }) => ({
    json: `{"next_batch":${JSON.stringify(next_batch)},"events":[${events.join(',')}]}`,
    news: events.length > 0,
  }))
}
