/** The writer: everything that changes the database, wired by hand. */
import type { Clock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { ephemeralShard, shardCount, shardOf } from '../../shared/commands/shards.ts'
import type { Config } from '../../shared/config/schema.ts'
import {
  createFederation,
  type Federation,
  type FederationNetwork,
  type SigningKeys,
} from '../../shared/federation/federation.ts'
import type { Logger } from '../../shared/logging.ts'
import type { UserId } from '../../shared/matrix/ids.ts'
import { openMediaStore } from '../../shared/media/open-store.ts'
import type { MediaStore } from '../../shared/media/store.ts'
import { checkedStore, ForeignStoreError } from '../../shared/media/store-marker.ts'
import type { WritableEphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import type { Publisher, Replication } from '../../shared/replication/replication.ts'
import { installationId } from '../../shared/storage/media.ts'
import type { MainSql } from '../../shared/storage/sql.ts'
import { startLookingAfterAccounts } from './background/account-validity.ts'
import { createDelayedSends, type DelayedSends } from './background/delayed-sends.ts'
import { createDepartures, type Departures } from './background/departures.ts'
import { createEndedRows } from './background/ended-rows.ts'
import { startPruning } from './background/prune.ts'
import { type CommandRunner, createCommandRunner } from './command-runner.ts'
import { createAccounts } from './commands/accounts/accounts.ts'
import { consentHandlers } from './commands/accounts/consent.ts'
import { validityHandlers } from './commands/accounts/validity.ts'
import { delayedEventHandlers } from './commands/delayed-events.ts'
import { federationMembershipHandlers } from './commands/federation/membership.ts'
import { serverAliveHandler } from './commands/federation/server-alive.ts'
import { serverKeyHandlers } from './commands/federation/server-keys.ts'
import { createKeys } from './commands/keys/index.ts'
import { createPushRules } from './commands/push-rules.ts'
import { pusherHandlers } from './commands/pushers.ts'
import { reportHandlers } from './commands/reports.ts'
import { roomKeyHandlers } from './commands/room-keys/index.ts'
import { createCarryOver } from './commands/rooms/carry-over.ts'
import { roomHandlers } from './commands/rooms/index.ts'
import { distinctTimes, type RoomCommandDeps } from './commands/rooms/room-command-deps.ts'
import { serverNoticeHandlers } from './commands/server-notices.ts'
import { threepidHandlers } from './commands/threepids/index.ts'
import { acknowledgeToDeviceHandler } from './commands/to-device/acknowledge.ts'
import { dehydratedDeviceHandlers } from './commands/to-device/dehydrated.ts'
import { sendToDeviceHandler } from './commands/to-device/send.ts'
import { urlPreviewHandlers } from './commands/url-previews.ts'
import { createUserData } from './commands/user-data/index.ts'
import { startIndexing } from './discovery/indexing.ts'
import { backfillHandler } from './federation/backfill.ts'
import { deviceListEdus } from './federation/edus/device-lists.ts'
import { directToDeviceEdu } from './federation/edus/direct-to-device.ts'
import { receiveEdusHandler } from './federation/edus/index.ts'
import { presenceEdu } from './federation/edus/presence.ts'
import { receiptEdu } from './federation/edus/receipts.ts'
import { typingEdu } from './federation/edus/typing.ts'
import { createEventFetcher } from './federation/fetch-events.ts'
import { createInbound, type Inbound } from './federation/inbound.ts'
import { createMembershipElsewhere } from './federation/membership-elsewhere.ts'
import { createPolicyServers } from './federation/policy-servers.ts'
import { startOutgoing } from './federation/sending/outgoing.ts'
import { startWhoSends } from './federation/sending/who-sends.ts'
import { createKeyedQueue } from './keyed-queue.ts'
import { createLinkTokens } from './link-tokens.ts'
import { mediaHandlers } from './media/commands.ts'
import { createStoreOwnership, type StoreOwnership } from './media/store-ownership.ts'
import { createMediaSweep } from './media/sweep.ts'
import { createOutageGuard } from './outage-guard.ts'
import { createDeliver } from './outbox/deliver.ts'
import { noOutbox, startOutbox } from './outbox/outbox.ts'
import { createCommitter } from './persist/committer.ts'
import { createNids } from './persist/nids.ts'
import { createStateTrees } from './persist/state-trees.ts'
import { createAuthChains } from './rooms/auth-chains.ts'
import { createRoomEngine, type RoomEngine } from './rooms/engine.ts'
import { createIgnoredSenders } from './rooms/ignored-senders.ts'
import { createReferenceHashes } from './rooms/reference-hashes.ts'
import { createTransactions, type Transactions } from './rooms/transactions.ts'
import { createRoutedClient } from './routed-client.ts'
import type { ShardOwnership } from './shards/ownership.ts'
import { whileOwned } from './shards/while-owned.ts'

/** What a main needs beside others of its kind. */
export interface Sharing {
  readonly ownership: ShardOwnership
  /** Carries commands to the mains that own what they are about. */
  readonly remote: MainClient
  /** Of the commands between processes, newest first: they seal what answers hold of secrets. */
  readonly secrets: readonly string[]
}

export interface MainDeps {
  readonly config: Config
  readonly sql: MainSql
  readonly replication: Replication & Publisher
  readonly ephemeral: WritableEphemeralStore
  readonly clock: Clock
  readonly signingKeys: SigningKeys
  /** Where other servers are found otherwise than by the system's means. */
  readonly network?: FederationNetwork | undefined
  readonly log: Pick<Logger, 'error'> & Partial<Pick<Logger, 'info'>>
  /** Nothing can be written any more: the process has to end. */
  readonly onFatal: (error: Error) => void
  /** The writer's name and who claimed it; absent: whoever commits first. */
  readonly writer?: { readonly name: string; readonly owner: string } | undefined
  /** Absent: this process is the only writer. */
  readonly sharing?: Sharing | undefined
}

export interface Main {
  /** The handlers of all commands; in one process they are called as they are. */
  readonly commands: MainClient
  readonly rooms: RoomEngine
  /** For whatever else this process has to do with other servers. */
  readonly federation: Federation
  /** For commands of other processes; absent where this one is the only writer. */
  readonly runner: CommandRunner | undefined
  /** Writes what is waiting, then lets go of the database. */
  close(): Promise<void>
}

const allShards = Array.from({ length: shardCount }, (_, shard) => shard)

export async function createMain(deps: MainDeps): Promise<Main> {
  const { config, sql, replication, ephemeral, clock, signingKeys, log, onFatal, sharing } = deps
  const [signingKey] = signingKeys
  const ownership = sharing?.ownership
  const serverName = config.server_name
  // First of all: who is refused their store has nothing running yet.
  const openedStore = openMediaStore(config)
  const storeOwnership = createStoreOwnership({ sql, store: openedStore, clock, log })
  await claimStore(storeOwnership, openedStore, log)
  const mediaStore = checkedStore(openedStore, () => installationId(sql))
  const outages = createOutageGuard(clock, config.commands.queue)
  const committer = createCommitter({
    sql,
    publisher: replication,
    clock,
    onFatal,
    onAway: outages.away,
    ...(deps.writer ? { writer: deps.writer.name, owner: deps.writer.owner } : {}),
  })
  const nids = createNids(sql)
  const pushRules = await createPushRules({
    sql,
    committer,
    replication,
    onError: (err) => log.error({ err }, 'changed push rules could not be read'),
  })
  const ignoredSenders = await createIgnoredSenders(sql, replication)
  /** For work that crosses rooms or users: carried out here where they are this process's, elsewhere where not. */
  const everywhere = {} as MainClient
  const federation = createFederation({
    config,
    sql,
    main: { storeServerKeys: (request) => everywhere.storeServerKeys(request) },
    signingKeys,
    cache: replication.cache,
    log,
    clock,
    ...deps.network,
  })
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
    policyServers: createPolicyServers(federation.client),
    committer,
    warmRoomsBytes: config.limits.warm_rooms,
    waitingPerRoomMax: config.commands.queue_per_room,
    onStall: (stalled) => log.error({ ...stalled }, 'a task held its room too long and was given up on'),
    isOwn: ownership && ((room_id) => ownership.holds(shardOf(room_id))),
  })
  const transactions = createTransactions(sql)
  const fetcher = createEventFetcher(federation)
  const roomDeps: RoomCommandDeps = {
    sql,
    clock,
    config,
    serverName,
    committer,
    nids,
    engine: rooms,
    transactions,
    creationTs: distinctTimes(clock),
    elsewhere: createMembershipElsewhere({
      fetcher,
      sql,
      nids,
      committer,
      engine: rooms,
      federation,
      serverName,
      clock,
      queue: createKeyedQueue(),
    }),
    inviteOther: (request) => everywhere.changeMembership(request),
    settingsFollow: (user_id, room_id) => everywhere.carryOverSettings({ user_id, room_id }),
    carryOver: createCarryOver({
      sql,
      committer,
      async copyPushRules(user_id, fromTo) {
        await pushRules.handlers.copyRoomPushRules({ user_id, ...fromTo })
      },
    }),
  }
  const roomCommands = roomHandlers(roomDeps)
  const outgoing = startOutgoing({ sql, replication, clock, config, client: federation.client, log })
  const inbound = createInbound({ sql, clock, engine: rooms, fetcher, log })
  const departures = createDepartures({
    sql,
    clock,
    changeMembership: (request) => everywhere.changeMembership(request),
    asOwner: (user_id, work) => asOwner(ownership, user_id, work),
    onError: (err) => log.error({ err }, 'a deactivated user could not leave all rooms; it is tried again'),
  })
  const delayedSends = createDelayedSends({
    sql,
    clock,
    send: (request) => everywhere.sendDelayedEvent(request),
    onError: (err) => log.error({ err }, 'a delayed event could not be sent; it is tried again'),
  })
  /** What changes a user's sessions, or the keys of their devices, runs one at a time a user. */
  const queue = createKeyedQueue()
  const endedRows = createEndedRows({
    sql,
    clock,
    onError: (err) => log.error({ err }, 'what ended could not be deleted; it is tried again'),
  })
  const links = createLinkTokens(signingKey)
  const sends = config.email.host !== undefined || config.sms.url !== undefined
  const outbox = sends
    ? startOutbox({
        sql,
        clock,
        deliver: createDeliver(config, links),
        giveUpAfterMs: config.email.give_up_after,
        log,
      })
    : noOutbox
  const accounts = createAccounts({
    config,
    queue,
    sql,
    committer,
    clock,
    departures,
    endedRows,
    rooms: {
      memberProfileChanged: (user_id, profile) =>
        rooms.memberProfileChanged(user_id, profile, (room_id) =>
          everywhere.updateMemberProfile({ room_id, user_id, ...profile }),
        ),
    },
  })
  const keys = createKeys({ sql, committer, clock, queue })
  const userData = createUserData({
    sql,
    committer,
    replication,
    ephemeral,
    clock,
    serverName,
    onError: (err) => log.error({ err }, 'a background write failed'),
  })
  const stopPruning = whileOwned(ownership, ephemeralShard, () =>
    startPruning({
      sql,
      clock,
      onError: (err) => log.error({ err }, 'pruning failed; it is tried again in an hour'),
    }),
  )
  const stopSweeping = whileOwned(ownership, ephemeralShard, () => {
    endedRows.sweep()
    return async () => {}
  })
  const stopIndexing = whileOwned(ownership, ephemeralShard, () =>
    startIndexing({
      sql,
      clock,
      replication,
      onError: (err) => log.error({ err }, 'the indexes of messages and users could not be written; it is tried again'),
    }),
  )
  const mediaSweep = createMediaSweep({ sql, clock, config, store: mediaStore, ownership: storeOwnership, log })
  const stopMedia = whileOwned(ownership, ephemeralShard, mediaSweep.start)
  const stopLookingAfterAccounts = config.account_validity.enabled
    ? whileOwned(ownership, ephemeralShard, () =>
        startLookingAfterAccounts({
          sql,
          committer,
          clock,
          config,
          outbox,
          onError: (err) => log.error({ err }, 'accounts that expire could not be looked after; it is tried again'),
        }),
      )
    : undefined
  const stopKeeping =
    sharing &&
    whileOwned(ownership, ephemeralShard, () => {
      // Not waited for: rooms need not wait for Redis.
      userData.adopt().catch((err: unknown) => log.error({ err }, 'who was online and who typed could not be read'))
      return userData.abandon
    })
  const handlers: MainClient = {
    ...accounts,
    ...roomCommands,
    ...userData.handlers,
    ...pushRules.handlers,
    ...keys,
    sendToDevice: sendToDeviceHandler({ sql, committer, transactions, own: serverName }),
    acknowledgeToDevice: acknowledgeToDeviceHandler(sql),
    ...dehydratedDeviceHandlers({ sql, committer, clock, queue, endedRows }),
    ...roomKeyHandlers({ sql, committer, endedRows }),
    ...reportHandlers({ committer, clock }),
    ...pusherHandlers({ sql, committer, clock, queue }),
    ...delayedEventHandlers({ rooms: roomDeps, config, signingKey, sends: delayedSends, queue }),
    ...serverNoticeHandlers({ sql, config, serverName, everywhere }),
    ...urlPreviewHandlers({ sql, clock }),
    ...mediaHandlers({ sql, committer, clock, config, sweep: mediaSweep }),
    ...threepidHandlers({ sql, committer, clock, config, queue, links, outbox }),
    ...consentHandlers({ sql, committer, clock, config, links }),
    ...validityHandlers({ sql, committer, clock, config, queue, links, outbox }),
    ...serverKeyHandlers({ committer, clock }),
    ...federationMembershipHandlers(roomDeps),
    serverAlive: serverAliveHandler({ sql, committer }),
    receivePdus: inbound.receivePdus,
    backfillRoom: backfillHandler({ sql, clock, engine: rooms, fetcher }),
    receiveEdus: receiveEdusHandler({
      handlers: [
        typingEdu({ sql, setTyping: (request) => everywhere.setTyping(request) }),
        presenceEdu({
          sql,
          enabled: config.presence.enabled,
          receivePresence: (request) => everywhere.receivePresence(request),
        }),
        receiptEdu({ sql, committer }),
        directToDeviceEdu({ sql, committer, own: serverName }),
        ...deviceListEdus({ sql, committer }),
      ],
      log,
    }),
  }
  const runner =
    sharing &&
    createCommandRunner({ handlers, outages, ownership: sharing.ownership, sql, clock, secrets: sharing.secrets })
  Object.assign(everywhere, runner ? createRoutedClient(runner, sharing.remote) : handlers)
  const follow = ownership && followShards(ownership, { rooms, transactions, departures, delayedSends, inbound })
  const stopSharing =
    ownership &&
    startWhoSends({
      sql,
      clock,
      id: deps.writer?.name ?? '',
      sends: config.main.sends_to_servers,
      ownership,
      outgoing,
      onError: (err) => log.error({ err }, 'which mains send to other servers could not be read; it is looked again'),
    })
  // Of one writer all that is left over is its own.
  if (!ownership) {
    departures.resume()
    delayedSends.gained(allShards)
    inbound.gained(allShards)
    if (config.main.sends_to_servers) outgoing.gained(allShards)
  }
  return {
    commands: runner ? everywhere : outages.guard(handlers),
    rooms,
    federation,
    runner,
    async close() {
      follow?.()
      await departures.close()
      await delayedSends.close()
      await stopSharing?.()
      await outgoing.close()
      await inbound.close()
      await stopPruning()
      await stopSweeping()
      await endedRows.close()
      await stopIndexing()
      await stopMedia()
      await mediaStore.close()
      await stopLookingAfterAccounts?.()
      await outbox.close()
      await stopKeeping?.()
      pushRules.close()
      ignoredSenders.close()
      await userData.close()
      await federation.close()
      await rooms.close()
      await committer.close()
    },
  }
}

/** A store that is away does not keep main from starting: nothing is used of it before it was looked at. */
async function claimStore(ownership: StoreOwnership, store: MediaStore, log: MainDeps['log']): Promise<void> {
  try {
    await ownership.claim()
  } catch (err) {
    if (err instanceof ForeignStoreError) {
      await store.close()
      throw err
    }
    log.error({ err }, 'the store of media cannot be looked at; it is tried again')
  }
}

function asOwner(
  ownership: ShardOwnership | undefined,
  user_id: UserId,
  work: () => Promise<void>,
): Promise<void> | undefined {
  if (!ownership) return work()
  const leave = ownership.enter(shardOf(user_id))
  return leave && work().finally(leave)
}

/** What is remembered of shards that come is out of date, and of those that go useless. */
function followShards(
  ownership: ShardOwnership,
  of: {
    readonly rooms: RoomEngine
    readonly transactions: Transactions
    readonly departures: Departures
    readonly delayedSends: DelayedSends
    readonly inbound: Inbound
  },
): () => void {
  const offGained = ownership.onGained((shards) => {
    const gained = new Set(shards)
    of.rooms.roomsGained((room_id) => gained.has(shardOf(room_id)))
    of.transactions.forget()
    of.departures.resume()
    of.delayedSends.gained(shards)
    of.inbound.gained(shards)
  })
  const offLost = ownership.onLost((shards) => {
    const lost = new Set(shards)
    of.rooms.roomsLost((room_id) => lost.has(shardOf(room_id)))
    of.delayedSends.lost(shards)
  })
  return () => {
    offGained()
    offLost()
  }
}
