/** https://spec.matrix.org/v1.19/server-server-api/#typing-notifications */
import * as v from 'valibot'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { RoomId, serverNameOf, UserId } from '../../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import { eduHandler } from './index.ts'
import { roomsOpenTo } from './rooms-open-to.ts'

/** Its server says when it ends; if that is lost, so does this. */
const timeout_ms = 60_000

export function typingEdu(deps: { readonly sql: MainSql; readonly setTyping: MainClient['setTyping'] }) {
  return eduHandler({
    edu_type: 'm.typing',
    content: v.object({ room_id: RoomId, user_id: UserId, typing: v.boolean() }),
    async handle(origin, { room_id, user_id, typing }) {
      if (serverNameOf(user_id) !== origin) return
      if (!(await roomsOpenTo(deps.sql, [room_id], origin)).has(room_id)) return
      await deps.setTyping({ room_id, user_id, typing, timeout_ms })
    },
  })
}
