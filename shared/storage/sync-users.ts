import { invitePermissionTypes } from '../core/invite-permission.ts'
import type { UserId } from '../matrix/ids.ts'
import type { ReadSql } from './sql.ts'

export interface UserDataPositions {
  /** Last positions of the user's account data and private receipts; 0 if there are none. */
  readonly account_data: number
  readonly private_receipts: number
  /** And of the threads that they follow or have ceased to follow. */
  readonly thread_subscriptions: number
  /** JSON text of `m.ignored_user_list`. */
  readonly ignored: string | null
  /** From whom the user takes invites: JSON text by type. */
  readonly invite_permission: Readonly<Record<string, string>> | null
}

/** Where a user's own data stands. */
export async function userDataPositions(sql: ReadSql, user: UserId): Promise<UserDataPositions> {
  const [row] = await sql<UserDataPositions[]>`
    select
      coalesce((select max(position) from account_data where user_id = ${user}), 0) as account_data,
      coalesce((select max(position) from receipts
        where user_id = ${user} and receipt_type = 'm.read.private'), 0) as private_receipts,
      coalesce((select max(position) from thread_subscriptions where user_id = ${user}), 0) as thread_subscriptions,
      (select content from account_data
        where user_id = ${user} and room_nid = 0 and type = 'm.ignored_user_list') as ignored,
      (select json_object_agg(type, content) from account_data
        where user_id = ${user} and room_nid = 0 and type in ${sql(invitePermissionTypes)}) as invite_permission`
  if (!row) throw new Error('a select without a table has one row')
  return row
}
