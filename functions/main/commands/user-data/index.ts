/** Wires the user-data commands; `createMain` takes their handlers and closes what they keep in memory. */
import type { Clock } from '../../../../shared/clock.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { userDataCommands } from '../../../../shared/commands/user-data.ts'
import { type ServerName, serverNameOf } from '../../../../shared/matrix/ids.ts'
import type { WritableEphemeralStore } from '../../../../shared/replication/ephemeral-store.ts'
import type { Publisher, Replication } from '../../../../shared/replication/replication.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import { createPresence } from '../../ephemeral/presence.ts'
import { createTyping } from '../../ephemeral/typing.ts'
import { createKeyedQueue } from '../../keyed-queue.ts'
import type { Committer } from '../../persist/writes.ts'
import { accountDataHandlers } from './account-data.ts'
import { presenceAndTypingHandlers } from './presence-and-typing.ts'
import { receiptHandlers } from './receipts.ts'
import { threadSubscriptionHandlers } from './thread-subscriptions.ts'

export interface UserDataDeps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly replication: Replication & Publisher
  readonly ephemeral: WritableEphemeralStore
  readonly clock: Clock
  readonly serverName: ServerName
  /** Told of failures of background writes. */
  readonly onError: (error: unknown) => void
}

export interface UserData {
  readonly handlers: Pick<MainClient, keyof typeof userDataCommands>
  /** Typing and presence are this process's from now on: it goes on with what another left. */
  adopt(): Promise<void>
  /** Typing and presence are another's from now on. */
  abandon(): Promise<void>
  close(): Promise<void>
}

export function createUserData(deps: UserDataDeps): UserData {
  const queue = createKeyedQueue()
  const common = { ...deps, queue, publisher: deps.replication, store: deps.ephemeral }
  const typing = createTyping(common)
  const presence = createPresence({ ...common, isLocal: (user_id) => serverNameOf(user_id) === deps.serverName })
  let adopting: Promise<void> | undefined
  // Who leaves a room no longer types in it.
  const unsubscribe = deps.replication.subscribe('events', (update) => {
    for (const { member, room_id } of update.rows) {
      if (member?.local && member.membership !== 'join') typing.stop(room_id, member.user_id)
    }
  })
  return {
    handlers: {
      ...receiptHandlers(common),
      ...accountDataHandlers(common),
      ...threadSubscriptionHandlers(common),
      ...presenceAndTypingHandlers({ ...common, typing, presence }),
    },
    adopt() {
      adopting = (async () => {
        const left = await deps.ephemeral.take?.()
        if (!left) return
        typing.adopt(left.typing)
        presence.adopt(left.presence)
      })()
      return adopting
    },
    async abandon() {
      await Promise.allSettled([adopting])
      typing.abandon()
      await presence.abandon()
      deps.ephemeral.leave?.()
    },
    async close() {
      unsubscribe()
      await presence.close()
    },
  }
}
