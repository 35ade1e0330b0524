/** Who ignores whom: in memory, so that a send asks nobody. Only users who ignore somebody are here. */
import { ignoredUsers } from '../../../shared/core/ignored-users.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import type { Replication } from '../../../shared/replication/replication.ts'
import { ignoredUserLists } from '../../../shared/storage/account-data.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

export interface IgnoredSenders {
  /** Local users who ignore this sender: nothing of theirs notifies them. */
  ignoring(sender: string): Iterable<UserId>
  close(): void
}

export async function createIgnoredSenders(sql: MainSql, replication: Replication): Promise<IgnoredSenders> {
  const ignored = new Map<UserId, ReadonlySet<string>>()
  const ignoring = new Map<string, Set<UserId>>()

  function set(user: UserId, senders: ReadonlySet<string>): void {
    for (const sender of ignored.get(user) ?? []) {
      const users = ignoring.get(sender)
      users?.delete(user)
      if (users?.size === 0) ignoring.delete(sender)
    }
    if (senders.size === 0) ignored.delete(user)
    else ignored.set(user, senders)
    for (const sender of senders) {
      const users = ignoring.get(sender)
      if (users) users.add(user)
      else ignoring.set(sender, new Set([user]))
    }
  }

  // Heard before it is read: what changes meanwhile is newer than what the query finds.
  let heard: Set<UserId> | undefined = new Set()
  const unsubscribe = replication.subscribe('account_data', ({ rows }) => {
    for (const row of rows) {
      if (row.type !== 'm.ignored_user_list' || row.room_nid !== 0) continue
      heard?.add(row.user_id)
      set(row.user_id, ignoredUsers(row.content))
    }
  })
  for (const { user_id, content } of await ignoredUserLists(sql)) {
    if (!heard.has(user_id)) set(user_id, ignoredUsers(content))
  }
  heard = undefined
  return { ignoring: (sender) => ignoring.get(sender) ?? [], close: unsubscribe }
}
