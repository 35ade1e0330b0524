/** Whether somebody may be invited: an invite has to be one that they take.
 *  https://spec.matrix.org/v1.19/client-server-api/#invite-permission */
import { compileInvitePermission, invitePermissionTypes } from '../../../../shared/core/invite-permission.ts'
import { serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import { noticesSender } from '../server-notices.ts'
import type { RoomCommandDeps } from './room-command-deps.ts'

/** Of users of this server; others' are asked for. Throws M_INVITE_BLOCKED where one of them takes no invites from this user. Returns those who are to hear nothing of the
 *  invite. */
export async function checkInvitees(
  deps: Pick<RoomCommandDeps, 'sql' | 'config' | 'serverName'>,
  inviter: UserId,
  users: readonly UserId[],
): Promise<ReadonlySet<UserId>> {
  const { sql, config, serverName } = deps
  const unaware = new Set<UserId>()
  // Nobody can refuse the room of the server's notices.
  const local = users.filter((user) => serverNameOf(user) === serverName)
  if (local.length === 0 || inviter === noticesSender(config, serverName)) return unaware
  for (const [user, contents] of await inviteConfigs(sql, local)) {
    const rule = compileInvitePermission(contents).ruleFor(inviter)
    if (rule === 'block') throw new MatrixError('M_INVITE_BLOCKED', `${user} does not take your invites`)
    if (rule === 'ignore') unaware.add(user)
  }
  return unaware
}

export function isInvite({ type, content }: { readonly type: string; readonly content: JsonObject }): boolean {
  return type === 'm.room.member' && content.membership === 'invite'
}

/** JSON texts by type, of those users who have any. */
async function inviteConfigs(sql: MainSql, users: readonly UserId[]): Promise<Map<UserId, Map<string, string>>> {
  const rows = await sql<{ user_id: UserId; type: string; content: string }[]>`
    select user_id, type, content from account_data
    where user_id in ${sql(users)} and room_nid = 0 and type in ${sql(invitePermissionTypes)}`
  const found = new Map<UserId, Map<string, string>>()
  for (const { user_id, type, content } of rows) {
    const contents = found.get(user_id) ?? new Map<string, string>()
    found.set(user_id, contents.set(type, content))
  }
  return found
}
