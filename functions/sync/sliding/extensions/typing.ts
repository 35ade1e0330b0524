/** MSC3961: who types. https://github.com/matrix-org/matrix-spec-proposals/pull/3961 */
import { typingJson } from '../../room-json.ts'
import type { Scope } from '../request.ts'
import { type Extension, inScope } from './extension.ts'

export const typingExtension: Extension<Scope> = ({ answer, state, selection, since, shown }, scope) => {
  const includes = inScope(scope)
  const { startedAt } = answer.live
  const rooms: string[] = []
  for (const selected of selection.rooms.values()) {
    const { room, room_nid, room_id } = selected.membership
    // Rooms that nobody typed in for as long as this process knows have nothing to tell to anybody.
    if (!room || room.typing === 0 || !includes(selected)) continue
    const sent = state.rooms.get(room_nid)
    const initial = !sent || !since || shown.get(room_nid)?.initial
    const tell = initial
      ? room.typists.length > 0
      : sent.staleTyping || room.typing > since.typing || (since.typing < startedAt.typing && room.typists.length > 0)
    if (tell) rooms.push(`${JSON.stringify(room_id)}:${typingJson(room.typists)}`)
  }
  return rooms.length === 0 ? undefined : { json: `{"rooms":{${rooms.join(',')}}}`, news: true }
}
