/** Who owns which shard, as a handler knows it: from Redis, where the mains announce themselves, or from Postgres, which is
 *  right. What is known may be out of date: whoever is refused looks again. */
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import { shardCount } from '../commands/shards.ts'
import type { Logger } from '../logging.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { Keyspace } from '../redis/keys.ts'
import { outsideRequests } from '../request-context.ts'
import type { ReadSql } from '../storage/sql.ts'

export interface ShardOwner {
  /** Of the main process. */
  readonly id: string
  /** `http://host:port`, or `unix:/path/of/socket`. */
  readonly url: string
  /** Counts the shard's changes of owner. */
  readonly epoch: number
}

export interface Refused {
  readonly shard: number | undefined
  readonly owner: ShardOwner | undefined
}

export interface ShardDirectory {
  /** As far as is known now; undefined where the shard is free or nothing was looked up yet. */
  ownerOf(shard: number): ShardOwner | undefined
  /** One of the mains, in turn; undefined where none is known. For commands that any main may take. */
  anyMain(): ShardOwner | undefined
  /** Whether this main owns anything, as far as is known. */
  knows(main: Pick<ShardOwner, 'id' | 'url'>): boolean
  /** Looks again. `refused`: this owner of the shard turned a command away or doesn't answer, so where Redis still names it,
   *  Postgres is asked. Calls at one time share a look. Resolves within a few seconds and never rejects: what can't be looked
   *  up stays as it was. */
  refresh(refused?: Refused): Promise<void>
  /** Called when a shard has another owner than before. Returns how to end that. */
  onChange(listener: () => void): () => void
  close(): void
}

export interface ShardDirectoryOptions {
  readonly redis: Pick<RedisConnection, 'client' | 'subscribe'>
  readonly keys: Keyspace
  readonly sql: ReadSql
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
}

/** The channel on which mains say that shards have moved. */
export const controlChannel = 'control'
export const ownersKey = 'owners'

/** Longer than Redis takes to fail. */
const lookMs = 4_000

const Url = v.pipe(v.string(), v.regex(/^(?:http:\/\/[^/?#@\s]+\/?|unix:\/[^\s]+)$/))
const Epoch = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const Shard = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(shardCount - 1))
export const AnnouncedOwner = v.object({ id: v.pipe(v.string(), v.minLength(1)), url: Url, epoch: Epoch })
const OwnersHash = v.array(v.string())
const OwnerRows = v.array(v.object({ shard: Shard, ...AnnouncedOwner.entries }))

type Owners = (ShardOwner | undefined)[]

export function createShardDirectory({ redis, keys, sql, clock, log }: ShardDirectoryOptions): ShardDirectory {
  let owners: Owners = []
  /** Each main once. */
  let mains: ShardOwner[] = []
  let turn = 0
  const listeners = new Set<() => void>()
  let looking: Promise<void> | undefined
  /** Begins when the look under way has ended: that one may have read what was there before. */
  let next: Promise<void> | undefined
  let doubts: Refused[] = []
  let closed = false

  async function fromRedis(): Promise<Owners | undefined> {
    const flat = v.parse(v.nullable(OwnersHash), await redis.client.hgetall(keys.key(ownersKey)))
    const found: Owners = []
    if (!flat || flat.length === 0) return undefined
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const shard = v.parse(Shard, Number(flat[i]))
      found[shard] = v.parse(AnnouncedOwner, JSON.parse(flat[i + 1] ?? ''))
    }
    return found
  }

  async function fromPostgres(): Promise<Owners> {
    const rows = await sql`
      select s.shard, m.id, m.url, s.epoch from shards s join mains m on m.id = s.owner where m.url <> ''`
    const found: Owners = []
    for (const { shard, ...owner } of v.parse(OwnerRows, rows)) found[shard] = owner
    return found
  }

  function isStale(found: Owners, doubted: readonly Refused[]): boolean {
    return doubted.some(({ shard, owner }) => {
      if (shard === undefined) return owner === undefined || found.some((other) => other?.id === owner.id)
      const now = found[shard]
      return !now || (owner !== undefined && now.id === owner.id && now.epoch <= owner.epoch)
    })
  }

  async function look(doubted: readonly Refused[]): Promise<void> {
    let found: Owners | undefined
    try {
      found = await fromRedis()
      // An announcement of the past, that some replica of Redis still had.
      if (found)
        for (const [shard, known] of owners.entries())
          if (known && (found[shard]?.epoch ?? -1) < known.epoch) found[shard] = known
    } catch (error) {
      log.warn({ err: error }, 'Redis does not tell who owns the shards; Postgres is asked')
    }
    if (!found || isStale(found, doubted)) {
      try {
        found = await fromPostgres()
      } catch (error) {
        log.warn({ err: error }, 'Postgres does not tell who owns the shards')
      }
    }
    if (found && !closed) adopt(found)
  }

  function adopt(found: Owners): void {
    let changed = false
    for (let shard = 0; shard < shardCount; shard++) {
      const [before, after] = [owners[shard], found[shard]]
      if (before?.id !== after?.id || before?.url !== after?.url) changed = true
    }
    owners = found
    const byId = new Map(found.flatMap((owner) => (owner ? [[owner.id, owner]] : [])))
    mains = [...byId.values()]
    if (changed) for (const listener of [...listeners]) listener()
  }

  function run(): Promise<void> {
    const doubted = doubts
    doubts = []
    const late = Promise.withResolvers<void>()
    const cancel = clock.after(lookMs, late.resolve)
    looking = Promise.race([outsideRequests(() => look(doubted)), late.promise]).finally(() => {
      cancel()
      looking = undefined
    })
    return looking
  }

  const directory: ShardDirectory = {
    ownerOf: (shard) => owners[shard],
    anyMain() {
      turn = (turn + 1) % Math.max(1, mains.length)
      return mains[turn]
    },
    knows: (main) => mains.some((known) => known.id === main.id && known.url === main.url),
    refresh(refused) {
      if (closed) return Promise.resolve()
      if (refused) doubts.push(refused)
      if (!looking) return run()
      next ??= looking.then(() => {
        next = undefined
        return run()
      })
      return next
    },
    onChange(listener) {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    close() {
      closed = true
      unsubscribe()
      listeners.clear()
    },
  }
  const lookSoon = () => void directory.refresh()
  const unsubscribe = redis.subscribe(keys.channel(controlChannel), {
    message: lookSoon,
    up: lookSoon,
    down: () => undefined,
  })
  lookSoon()
  return directory
}
