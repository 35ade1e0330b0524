/** Devices and cross-signing keys of other servers' users change: who shares a room with them is to ask for them anew. Nothing
 *  is kept of what changed, so none of it can be lost.
 *  https://spec.matrix.org/v1.19/server-server-api/#device-management */
import * as v from 'valibot'
import { type ServerName, serverNameOf, UserId } from '../../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { Committer } from '../../persist/writes.ts'
import { eduHandler } from './index.ts'

interface Deps {
  readonly sql: MainSql
  readonly committer: Committer
}

export function deviceListEdus(deps: Deps) {
  const changed = async (origin: ServerName, user_id: UserId) => {
    if (serverNameOf(user_id) !== origin || !(await isKnown(deps.sql, user_id))) return
    await deps.committer.commit({ device_lists: [{ user_id }] })
  }
  return ['m.device_list_update', 'm.signing_key_update'].map((edu_type) =>
    eduHandler({
      edu_type,
      content: v.object({ user_id: UserId }),
      handle: (origin, { user_id }) => changed(origin, user_id),
    }),
  )
}

/** Of others nobody here would hear. */
async function isKnown(sql: MainSql, user_id: UserId): Promise<boolean> {
  const [found] = await sql`
    select 1 from memberships m where m.user_id = ${user_id} and m.membership = 'join' limit 1`
  return found !== undefined
}
