/** What the user was notified of. https://spec.matrix.org/v1.19/client-server-api/#listing-notifications */
import * as v from 'valibot'
import { RawJson } from '../../../shared/http/route.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type Notification, notificationsBelow } from '../../../shared/storage/notifications.ts'
import { pushClassOf } from '../../../shared/storage/push-rules.ts'
import { clientEventJson } from '../../../shared/timeline/client-json.ts'
import { isIgnored } from '../../../shared/timeline/timeline-page.ts'
import { type ClientDeps, route } from '../deps.ts'
import { limitOf } from '../read/parameters.ts'
import { readerOf } from '../read/rendering.ts'

const limits = { standard: 20, most: 100 }
/** A page ends early, and says where, after so many reads: what notified may be hidden. */
const readsMax = 5

const text = v.optional(v.string())

export const getNotifications = route({
  method: 'GET',
  path: '/_matrix/client/v3/notifications',
  spec: 'client-server-api/#get_matrixclientv3notifications',
  auth: 'user',
  limit: 'read',
  query: v.object({ from: text, limit: text, only: text }),
  async handle({ query, user }, deps) {
    // Zero would never get anywhere.
    const limit = limitOf(query.limit, limits) || limits.standard
    const class_id = await pushClassOf(deps.sql, user.user_id)
    const who = { user_id: user.user_id, class_id }
    const highlightsOnly = query.only === 'highlight'
    const shown: Shown[] = []
    let upTo: number | undefined = query.from ? placeOf(query.from) : deps.replication.positions().events
    for (let reads = 0; upTo !== undefined && shown.length < limit && reads < readsMax; reads++) {
      const page = await notificationsBelow(deps.sql, who, { upTo, highlightsOnly, limit: limit - shown.length })
      shown.push(...(await visible(deps, user.user_id, page.notifications)))
      upTo = page.lookedTo
    }
    const now = deps.clock.now()
    const list = shown.map(({ notification: { event, highlight, read }, membership }) => {
      const actions = highlight ? '["notify",{"set_tweak":"highlight"}]' : '["notify"]'
      return (
        `{"actions":${actions},"event":${clientEventJson(event, user, { now, roomId: true, membership })}` +
        `,"read":${read},"room_id":${JSON.stringify(event.room_id)},"ts":${event.origin_server_ts}}`
      )
    })
    const next = upTo === undefined ? '' : `,"next_token":"n1_${upTo}"`
    return new RawJson(`{"notifications":[${list.join(',')}]${next}}`)
  },
})

interface Shown {
  readonly notification: Notification
  readonly membership: string
}

async function visible(deps: ClientDeps, user: UserId, found: readonly Notification[]): Promise<Shown[]> {
  const reader = readerOf(deps)
  const ignored = await reader.ignoredUsers(user)
  const byRoom = Map.groupBy(
    found.filter(({ event }) => !isIgnored(event, ignored)),
    ({ event }) => event.room_id,
  )
  const memberships = new Map<number, string>()
  await Promise.all(
    [...byRoom].map(async ([room_id, list]) => {
      const view = await reader.open(room_id, user).catch(closed)
      if (!view) return
      for (const { event, membership } of await reader.seen(
        view,
        list.map((one) => one.event),
      )) {
        memberships.set(event.event_nid, membership)
      }
    }),
  )
  return found.flatMap((notification) => {
    const membership = memberships.get(notification.event.event_nid)
    return membership === undefined ? [] : [{ notification, membership }]
  })
}

/** The user may have left the room since. */
function closed(error: unknown): undefined {
  if (error instanceof MatrixError && error.errcode === 'M_FORBIDDEN') return undefined
  throw error
}

function placeOf(token: string): number {
  const match = /^n1_(\d{1,15})$/.exec(token)
  if (!match) throw new MatrixError('M_INVALID_PARAM', 'Query parameter from is not a token of this server')
  return Number(match[1])
}
