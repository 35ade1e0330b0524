/** The lease of one main among several, and its shards. The lease is renewed every second; who lets it lapse is fenced and
 *  loses all shards to another. A main that lives gives shards up by itself alone: it takes no new work on them, waits for
 *  what is under way, forgets what it remembers of them, and only then they are somebody else's. */
import { randomUUID } from 'node:crypto'
import type { Clock } from '../../../shared/clock.ts'
import { shardCount } from '../../../shared/commands/shards.ts'
import type { Logger } from '../../../shared/logging.ts'
import { unavailable } from '../outage-guard.ts'
import type { LeaseTable, SeenShards } from './lease-table.ts'
import { anyShard, type ShardOwnership } from './ownership.ts'
import { planMoves } from './plan.ts'

/** How others hear of what the database says already: sooner than by looking. */
export interface Announcer {
  /** The shards that this main owns, all of them, each time it looked. */
  owned(shards: readonly { readonly shard: number; readonly epoch: number }[]): void
  /** Shards moved: who looks at the database now sees something new. Resolves when that is said, or can't be. */
  moved(): Promise<void>
  onMoved(look: () => void): () => void
}

export interface ShardLeases extends ShardOwnership {
  readonly id: string
  /** For the committer: its row was made when this main joined. */
  readonly writer: { readonly name: string; readonly owner: string }
  /** From now on shards are taken. */
  start(): void
  /** Ends the lease, after all is stored. Shards that were not released are free then. */
  leave(): Promise<void>
  readonly owned: readonly number[]
  /** Of all mains, as last seen. */
  readonly seen: SeenShards | undefined
}

export interface ShardLeasesOptions {
  /** On a connection of its own: a busy pool must not cost the lease. */
  readonly table: LeaseTable
  readonly clock: Clock
  readonly url: string
  readonly standby: boolean
  readonly announcer?: Announcer | undefined
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  /** The lease was lost: the process has to end. */
  readonly onFatal: (error: Error) => void
  readonly id?: string
  readonly ttlMs?: number
  readonly beatMs?: number
}

export class LeaseLostError extends Error {
  constructor(id: string) {
    super(`another main process has taken over the shards of this one (${id}), which gave no sign of life for too long`)
    this.name = 'LeaseLostError'
  }
}

const defaults = { ttlMs: 3_000, beatMs: 1_000 } as const
/** After a beat that failed, and to look once more after another's lease was over. */
const soonMs = 100

interface Move {
  readonly shard: number
  /** undefined: to nobody. */
  readonly to: string | undefined
}

/** Joins the mains; rejects where the database is away. No shard is taken before `start`. */
export async function createShardLeases(options: ShardLeasesOptions): Promise<ShardLeases> {
  const { table, clock, announcer, log, onFatal } = options
  const ttlMs = options.ttlMs ?? defaults.ttlMs
  const beatMs = options.beatMs ?? defaults.beatMs
  const id = options.id ?? `main-${randomUUID().slice(0, 8)}`
  const owner = randomUUID()

  const owned = new Set<number>()
  /** Owned still, but taken no more work for. */
  const leaving = new Set<number>()
  /** Of those, the ones that nobody holds and nobody gets to hold any more: what was remembered of them is being forgotten. */
  const closed = new Set<number>()
  const holders = new Map<number, number>()
  const idle = new Map<number, () => void>()
  const gained = new Set<(shards: readonly number[]) => void | Promise<void>>()
  const ready: Move[] = []
  const lost = new Set<(shards: readonly number[]) => void | Promise<void>>()
  let seen: SeenShards | undefined
  let leaseUntil = clock.now() + ttlMs
  /** Since when every beat came in time. Who was away itself can't tell who else was, so it buries nobody. */
  let steadySince = clock.now()
  /** Before that nobody follows what is gained. */
  let started = false
  let ended = false
  let stopping: Promise<void> | undefined
  let cancel = () => {}
  /** One talk with the database at a time: what was seen must not be older than what was done. */
  let talk: Promise<unknown> = Promise.resolve()
  let looking = false
  let lookAgain = false

  await table.join({ id, owner, url: options.url, standby: options.standby, ttlMs })

  function inTurn<T>(say: () => Promise<T>): Promise<T> {
    const mine = talk.then(say, say)
    talk = mine.catch(() => undefined)
    return mine
  }

  function die(error: Error): void {
    if (ended) return
    ended = true
    cancel()
    owned.clear()
    onFatal(error)
  }

  async function tell(listeners: ReadonlySet<(shards: readonly number[]) => void | Promise<void>>, shards: number[]) {
    await Promise.all([...listeners].map((listener) => listener(shards)))
  }

  /** What the database says is mine, becomes so; what it says is another's was taken while this process slept. */
  async function take(sight: SeenShards): Promise<void> {
    const fresh: number[] = []
    for (let shard = 0; shard < shardCount; shard++) {
      const mine = sight.owners[shard] === id
      if (mine && !owned.has(shard)) fresh.push(shard)
      if (!mine && owned.has(shard) && !leaving.has(shard)) throw new LeaseLostError(id)
    }
    if (fresh.length === 0) return
    await tell(gained, fresh)
    for (const shard of fresh) owned.add(shard)
    log.info({ main: id, gained: fresh.length, owned: owned.size }, 'owns further shards')
  }

  async function renew(): Promise<SeenShards> {
    const askedTs = clock.now()
    const sight = await table.renew(id, ttlMs)
    if (!sight) throw new LeaseLostError(id)
    if (askedTs >= leaseUntil) steadySince = clock.now()
    leaseUntil = askedTs + ttlMs
    seen = sight
    return sight
  }

  /** Looks, and takes what nobody else has. */
  async function beat(): Promise<void> {
    const sight = await inTurn(async () => {
      const found = await renew()
      await take(found)
      if (stopping) return found
      const moves = planMoves(id, found)
      let changed = false
      for (const dead of clock.now() - steadySince < ttlMs ? [] : moves.takeOver) {
        const shards = await table.takeOver(id, dead)
        if (!shards) continue
        log.warn({ main: id, dead, shards: shards.length }, 'took over the shards of a main that gave no sign of life')
        changed = true
      }
      if (moves.claim > 0 && found.owners.includes(null)) {
        if ((await table.claim(id, moves.claim)).length > 0) changed = true
      }
      if (!changed) return found
      const then = await renew()
      await take(then)
      void announcer?.moved()
      return then
    })
    if (stopping || ended) return
    announce(sight)
    const moves = planMoves(id, sight).give.filter(({ shard }) => owned.has(shard) && !leaving.has(shard))
    if (moves.length > 0) giveUp(moves).catch(die)
  }

  function announce(sight: SeenShards): void {
    const mine = [...owned].filter((shard) => !leaving.has(shard))
    if (mine.length > 0) announcer?.owned(mine.map((shard) => ({ shard, epoch: sight.epochs[shard] ?? 0 })))
  }

  async function look(): Promise<void> {
    if (looking) {
      lookAgain = true
      return
    }
    looking = true
    cancel()
    let next = beatMs
    try {
      do {
        lookAgain = false
        await beat()
      } while (lookAgain && !ended)
      // Just after the next lease of another is over, if nothing comes of it.
      for (const main of seen?.mains ?? []) {
        if (main.id !== id) next = Math.min(next, Math.max(soonMs, main.left_ms + soonMs))
      }
    } catch (error) {
      if (error instanceof LeaseLostError) die(error)
      else if (!ended) log.warn({ main: id, err: error }, 'the lease could not be renewed; it is tried again')
      next = soonMs
    } finally {
      looking = false
      if (!ended) cancel = clock.after(next, () => void look())
    }
  }

  function untilIdle(shard: number): Promise<void> {
    // Closed in the turn in which the last holder leaves: nobody slips in before the hand-over begins.
    return new Promise((resolve) => {
      const close = () => {
        closed.add(shard)
        resolve()
      }
      if (holders.get(shard)) idle.set(shard, close)
      else close()
    })
  }

  /** Each shard goes as soon as nothing works on it: what works on one may wait for another. */
  async function giveUp(moves: readonly Move[]): Promise<void> {
    for (const { shard } of moves) leaving.add(shard)
    await Promise.all(
      moves.map(async (move) => {
        await untilIdle(move.shard)
        ready.push(move)
        // Those that are idle now go together.
        await undefined
        const together = ready.splice(0)
        if (together.length > 0) await handOver(together)
      }),
    )
  }

  async function handOver(moves: readonly Move[]): Promise<void> {
    const shards = moves.map(({ shard }) => shard)
    await tell(lost, shards)
    for (;;) {
      try {
        await inTurn(async () => {
          if (ended) return
          await table.handOver(id, moves)
          for (const shard of shards) owned.delete(shard)
        })
        break
      } catch (error) {
        // What became of it is not known; said again, it changes nothing.
        log.warn({ main: id, err: error }, 'shards could not be handed over; it is tried again')
        await new Promise<void>((resolve) => clock.after(soonMs, resolve))
      }
    }
    for (const shard of shards) {
      leaving.delete(shard)
      closed.delete(shard)
    }
    if (ended) return
    void announcer?.moved()
    log.info({ main: id, given: shards.length, owned: owned.size }, 'gave shards away')
  }

  async function stop(): Promise<void> {
    // From here on no new work is begun that any main could do.
    stopping = Promise.resolve()
    const sight = await inTurn(async () => {
      await table.retire(id)
      return renew()
    }).catch((error: unknown) => {
      log.warn({ main: id, err: error }, 'the database does not say who could take over: the shards are free')
    })
    const to = new Map((sight ? planMoves(id, sight).give : []).map((move) => [move.shard, move.to]))
    const moves = [...owned].filter((shard) => !leaving.has(shard)).map((shard) => ({ shard, to: to.get(shard) }))
    await Promise.all([untilIdle(anyShard), giveUp(moves)])
    while (leaving.size > 0 && !ended) await new Promise<void>((resolve) => clock.after(soonMs, resolve))
  }

  const unsubscribe = announcer?.onMoved(() => {
    if (started) void look()
  })

  return {
    id,
    writer: { name: id, owner },
    owns: (shard) => owned.has(shard) && !leaving.has(shard),
    holds: (shard) => owned.has(shard) && !closed.has(shard),
    enter(shard, nested = false) {
      if (shard === anyShard ? stopping !== undefined && !nested : !owned.has(shard)) return undefined
      if (leaving.has(shard) && (!nested || closed.has(shard))) return undefined
      // A commit would be refused; what else it may do, nobody knows to undo.
      if (clock.now() >= leaseUntil) throw unavailable()
      holders.set(shard, (holders.get(shard) ?? 0) + 1)
      let held = true
      return () => {
        if (!held) return
        held = false
        const left = (holders.get(shard) ?? 1) - 1
        if (left > 0) holders.set(shard, left)
        else {
          holders.delete(shard)
          const resume = idle.get(shard)
          idle.delete(shard)
          resume?.()
        }
      }
    },
    onGained(listener) {
      gained.add(listener)
      return () => gained.delete(listener)
    },
    onLost(listener) {
      lost.add(listener)
      return () => lost.delete(listener)
    },
    start() {
      started = true
      void look()
    },
    release() {
      stopping ??= stop()
      return stopping
    },
    async leave() {
      stopping ??= Promise.resolve()
      if (ended) return
      ended = true
      cancel()
      unsubscribe?.()
      await inTurn(() => table.leave(id)).catch((error: unknown) => {
        log.warn({ main: id, err: error }, 'could not sign off; the lease ends by itself')
      })
      await announcer?.moved()
    },
    get owned() {
      return [...owned].filter((shard) => !leaving.has(shard))
    },
    get seen() {
      return seen
    },
  }
}
