/** The writer: everything that changes the database, wired by hand. */
import type { Clock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { Logger } from '../../shared/logging.ts'
import type { SigningKey } from '../../shared/matrix/signatures.ts'
import type { WritableEphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import type { Publisher, Replication } from '../../shared/replication/replication.ts'
import type { MainSql } from '../../shared/storage/sql.ts'
import { startPruning } from './background/prune.ts'
import { createAccounts } from './commands/accounts/accounts.ts'
import { createPushRules } from './commands/push-rules.ts'
import { createCarryOver } from './commands/rooms/carry-over.ts'
import { roomHandlers } from './commands/rooms/index.ts'
import { distinctTimes } from './commands/rooms/room-command-deps.ts'
import { createUserData } from './commands/user-data/index.ts'
import { createOutageGuard } from './outage-guard.ts'
import { createCommitter } from './persist/committer.ts'
import { createNids } from './persist/nids.ts'
import { createStateTrees } from './persist/state-trees.ts'
import { createAuthChains } from './rooms/auth-chains.ts'
import { createRoomEngine, type RoomEngine } from './rooms/engine.ts'
import { createIgnoredSenders } from './rooms/ignored-senders.ts'
import { createReferenceHashes } from './rooms/reference-hashes.ts'
import { createTransactions } from './rooms/transactions.ts'

export interface MainDeps {
  readonly config: Config
  readonly sql: MainSql
  readonly replication: Replication & Publisher
  readonly ephemeral: WritableEphemeralStore
  readonly clock: Clock
  readonly signingKey: SigningKey
  readonly log: Pick<Logger, 'error'>
  /** Nothing can be written any more: the process has to end. */
  readonly onFatal: (error: Error) => void
}

export interface Main {
  /** The handlers of all commands; in one process they are called as they are. */
  readonly commands: MainClient
  readonly rooms: RoomEngine
  /** Writes what is waiting, then lets go of the database. */
  close(): Promise<void>
}

export async function createMain(deps: MainDeps): Promise<Main> {
  const { config, sql, replication, ephemeral, clock, signingKey, log, onFatal } = deps
  const serverName = config.server_name
  const outages = createOutageGuard(clock)
  const committer = createCommitter({ sql, publisher: replication, clock, onFatal, onAway: outages.away })
  const nids = createNids(sql)
  const pushRules = await createPushRules({
    sql,
    committer,
    replication,
    onError: (err) => log.error({ err }, 'changed push rules could not be read'),
  })
  const ignoredSenders = await createIgnoredSenders(sql, replication)
  const rooms = createRoomEngine({
    sql,
    clock,
    nids,
    stateTrees: createStateTrees({ sql, nids }),
    authChains: createAuthChains({ sql, nids }),
    serverName,
    signingKey,
    pushClasses: pushRules.classes,
    ignoredSenders,
    referenceHashes: createReferenceHashes(sql),
    committer,
    warmRoomsBytes: config.limits.warm_rooms,
    onStall: (stalled) => log.error({ ...stalled }, 'a task held its room too long and was given up on'),
  })
  const roomCommands = roomHandlers({
    sql,
    clock,
    config,
    serverName,
    committer,
    nids,
    engine: rooms,
    transactions: createTransactions(sql),
    creationTs: distinctTimes(clock),
    carryOver: createCarryOver({
      sql,
      committer,
      async copyPushRules(user_id, fromTo) {
        await pushRules.handlers.copyRoomPushRules({ user_id, ...fromTo })
      },
    }),
  })
  const accounts = createAccounts({
    config,
    sql,
    committer,
    clock,
    rooms: {
      memberProfileChanged: rooms.memberProfileChanged,
      changeMembership: roomCommands.changeMembership,
    },
  })
  const userData = createUserData({
    sql,
    committer,
    replication,
    ephemeral,
    clock,
    onError: (err) => log.error({ err }, 'a background write failed'),
  })
  const stopPruning = startPruning({
    sql,
    clock,
    onError: (err) => log.error({ err }, 'pruning failed; it is tried again in an hour'),
  })
  return {
    commands: outages.guard({ ...accounts, ...roomCommands, ...userData.handlers, ...pushRules.handlers }),
    rooms,
    async close() {
      await stopPruning()
      pushRules.close()
      ignoredSenders.close()
      await userData.close()
      await rooms.close()
      await committer.close()
    },
  }
}
