/** MSC3959: account data, of the user and of rooms. https://github.com/matrix-org/matrix-spec-proposals/pull/3959 */
import { globalAccountData } from '../../answer.ts'
import type { UserRoom } from '../../live-user.ts'
import { roomAccountData } from '../../room-data.ts'
import { accountDataJson } from '../../room-json.ts'
import { allSoon, soon } from '../../soon.ts'
import type { Scope } from '../request.ts'
import { type Extension, inScope } from './extension.ts'

export const accountDataExtension: Extension<Scope> = (context, scope) => {
  const { answer, state, selection, since, upTo } = context
  const told = state.globalAccountData ? since : undefined
  const includes = inScope(scope)
  const parts: { readonly membership: UserRoom; readonly fresh: boolean }[] = []
  for (const room of selection.rooms.values()) {
    if (!includes(room)) continue
    const fresh = !state.rooms.get(room.membership.room_nid)?.accountData
    parts.push({ membership: room.membership, fresh })
  }
  const read = allSoon([
    globalAccountData(answer, { since: told, upTo }),
    roomAccountData(answer, { since, upTo }, parts),
  ])
  return soon(read, ([all, byRoom]) => {
    const rooms: string[] = []
    for (const { membership } of parts) {
      const rows = byRoom.get(membership.room_nid)
      if (rows?.length) rooms.push(`${JSON.stringify(membership.room_id)}:[${accountDataJson(rows)}]`)
    }
    if (all.length + rooms.length === 0) return undefined
    return { json: `{"global":[${accountDataJson(all)}],"rooms":{${rooms.join(',')}}}`, news: true }
  })
}
