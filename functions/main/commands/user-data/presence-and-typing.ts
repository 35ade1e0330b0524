/** Typing and presence: checked here, kept in memory by `functions/main/ephemeral`. */
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { PresenceTracker } from '../../ephemeral/presence.ts'
import type { Typing } from '../../ephemeral/typing.ts'

interface Deps {
  readonly sql: MainSql
  readonly typing: Typing
  readonly presence: PresenceTracker
}

export function presenceAndTypingHandlers(
  deps: Deps,
): Pick<MainClient, 'setTyping' | 'setPresence' | 'receivePresence'> {
  return {
    async setTyping(request) {
      const [joined] = await deps.sql`
        select from memberships m join rooms r on r.room_nid = m.room_nid
        where r.room_id = ${request.room_id} and m.user_id = ${request.user_id} and m.membership = 'join'`
      if (!joined) throw new MatrixError('M_FORBIDDEN', 'You are not in this room')
      deps.typing.set(request.room_id, request.user_id, request.typing, request.timeout_ms)
      return {}
    },
    async setPresence({ user_id, presence, status_msg, source }) {
      deps.presence.set({ user_id, presence, source, ...(status_msg === undefined ? {} : { status_msg }) })
      return {}
    },
    async receivePresence({ updates }) {
      for (const update of updates) deps.presence.setRemote(update)
      return {}
    },
  }
}
