/** Wires the user-data commands; `createMain` takes their handlers and closes what they keep in memory. */
import type { Clock } from '../../../../shared/clock.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { ephemeralShard } from '../../../../shared/commands/shards.ts'
import type { userDataCommands } from '../../../../shared/commands/user-data.ts'
import type { WritableEphemeralStore } from '../../../../shared/replication/ephemeral-store.ts'
import type { Publisher, Replication } from '../../../../shared/replication/replication.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import { createPresence, type PresenceTracker } from '../../ephemeral/presence.ts'
import { createTyping, type Typing } from '../../ephemeral/typing.ts'
import { createKeyedQueue } from '../../keyed-queue.ts'
import type { Committer } from '../../persist/writes.ts'
import type { ShardOwnership } from '../../shards/ownership.ts'
import { accountDataHandlers } from './account-data.ts'
import { presenceAndTypingHandlers } from './presence-and-typing.ts'
import { receiptHandlers } from './receipts.ts'

export interface UserDataDeps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly replication: Replication & Publisher
  readonly ephemeral: WritableEphemeralStore
  readonly clock: Clock
  /** Where several mains take turns: typing and presence are kept by the one that owns their shard. */
  readonly ownership?: Pick<ShardOwnership, 'onGained' | 'onLost'> | undefined
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
  const presence = createPresence(common)
  let adopting: Promise<void> | undefined
  // Who leaves a room no longer types in it.
  const unsubscribe = deps.replication.subscribe('events', (update) => {
    for (const { member, room_id } of update.rows) {
      if (member?.local && member.membership !== 'join') typing.stop(room_id, member.user_id)
    }
  })
  const endTurns = deps.ownership && takeTurns(deps.ownership, deps.ephemeral, { typing, presence })
  return {
    handlers: {
      ...receiptHandlers(common),
      ...accountDataHandlers(common),
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
      endTurns?.()
      await presence.close()
    },
  }
}

function takeTurns(
  ownership: Pick<ShardOwnership, 'onGained' | 'onLost'>,
  store: WritableEphemeralStore,
  { typing, presence }: { readonly typing: Typing; readonly presence: PresenceTracker },
): () => void {
  const offGained = ownership.onGained(async (shards) => {
    if (!shards.includes(ephemeralShard)) return
    const left = await store.take?.()
    if (!left) return
    typing.adopt(left.typing)
    presence.adopt(left.presence)
  })
  const offLost = ownership.onLost(async (shards) => {
    if (!shards.includes(ephemeralShard)) return
    typing.abandon()
    await presence.abandon()
    store.leave?.()
  })
  return () => {
    offGained()
    offLost()
  }
}
