/** What makes positions in Redis trustworthy: a main's beat says that everything which it has acknowledged is there. So an
 *  acknowledgement waits until Redis has the rows, or until no reader can take this main's last beat for fresh any more. */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import type { Logger } from '../logging.ts'
import type { RedisConnection } from '../redis/connection.ts'
import type { ReadSql } from '../storage/sql.ts'
import { type StreamName, type StreamPositions, streamNames, streams } from '../streams/registry.ts'
import type { GapFiller } from './gap-filler.ts'
import { positionsMessage } from './messages.ts'
import {
  beatFreshMs,
  farewell,
  isFreshBeat,
  parsePositions,
  parseScores,
  parseTime,
  type RedisView,
  type ReplicationKeys,
  viewReader,
} from './redis-state.ts'

const beatEveryMs = 500
const probeEveryMs = 200
/** Where Redis answers, but takes no beat: each attempt holds acknowledgements back for as long as a beat is fresh. */
const rejoinMs = 5_000
/** Clocks run unevenly. */
const slackMs = 250
const mainsEveryMs = 1_000
/** Without a look at the list of mains for this long, a new one may be unknown here: then this one vouches for nothing. */
const mainsKnownMs = 3_000
/** A main that never reached Redis is known to every other after this, or that other has stopped vouching. */
const unknownMainMs = mainsKnownMs + beatFreshMs + slackMs

export interface MainBeatDeps {
  readonly redis: RedisConnection
  readonly keys: ReplicationKeys
  /** Reads table `mains`. */
  readonly sql: ReadSql
  readonly gaps: GapFiller
  readonly mainId: string
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn' | 'info'>
  /** Everything that this process has committed or heard of. */
  readonly positions: () => StreamPositions
  /** Where other mains have got to, as Redis says. */
  readonly onPositions: (positions: Partial<StreamPositions>) => void
  /** Redis is there, and the positions are; what else this main keeps there may not be. */
  readonly onUp: () => void
}

export interface MainBeat {
  /** Rows can be published now. */
  up(): boolean
  /** Redis's clock as far as is known here; 0 before it answered. */
  redisTime(): number
  /** A publication failed: Redis is given up on until it answers again. */
  lost(error: unknown): void
  /** Undefined: who waits for an acknowledgement need not wait for Redis. Else resolves when that is so. */
  heldBack(): Promise<void> | undefined
  close(): Promise<void>
}

const mainRow = v.array(v.object({ id: v.string() }))

export function createMainBeat(deps: MainBeatDeps): MainBeat {
  const { redis, keys, sql, gaps, mainId, clock, log } = deps
  const { client } = redis
  const readView = viewReader(redis, keys)
  let state: 'away' | 'joining' | 'up' = 'away'
  /** `time` was Redis's when it was `at` here, or a little later. */
  let redisClock: { time: number; at: number } | undefined
  /** When no reader takes the last beat for fresh any more; undefined: no beat was ever sent. */
  let lapsesAt: number | undefined
  let held: PromiseWithResolvers<void> | undefined
  let cancelHold = () => {}
  let cancelTimer = () => {}
  let closed = false
  let beats: ReadonlyMap<string, number> = new Map()
  let mains: { ids: ReadonlySet<string>; at: number } | undefined
  let readingMains = false
  let beating: Promise<void> = Promise.resolve()

  function redisTime(): number {
    return redisClock ? Math.floor(redisClock.time + (performance.now() - redisClock.at)) : 0
  }
  function heard(time: number): void {
    redisClock = { time, at: performance.now() }
  }

  function release(): void {
    cancelHold()
    held?.resolve()
    held = undefined
  }
  function armHold(): void {
    cancelHold()
    if (held) cancelHold = clock.after(Math.max(0, (lapsesAt ?? 0) - performance.now()), release)
  }

  function lost(error: unknown): void {
    if (state === 'away') return
    const delayMs = state === 'up' ? probeEveryMs : rejoinMs
    state = 'away'
    log.warn({ err: error }, 'Redis does not answer: rows are not published until it does, readers ask the database')
    armHold()
    schedule(delayMs, probe)
  }
  function schedule(delayMs: number, run: () => Promise<void>): void {
    cancelTimer()
    if (closed) return
    cancelTimer = clock.after(delayMs, () => {
      beating = run()
    })
  }

  async function probe(): Promise<void> {
    try {
      await readMains()
      const view = await readView()
      heard(view.time)
      if (closed) return
      if (knowsMains()) await join(view)
      else schedule(probeEveryMs, probe)
    } catch {
      // Asked again until it answers.
      schedule(probeEveryMs, probe)
    }
  }

  /** After an absence: everything that was committed meanwhile is in the positions that come with the first beat. Caches may
   *  have missed invalidations, so they begin anew. */
  async function join(view: RedisView): Promise<void> {
    const stored = await gaps.stored()
    const restored = (Object.keys(stored) as StreamName[]).some(
      (name) => streams[name].kept === 'postgres' && (view.positions[name] ?? 0) > (stored[name] ?? 0),
    )
    state = 'joining'
    try {
      if (restored) await restart(view, stored)
      await beat(newEpoch())
    } catch (error) {
      lost(error)
      return
    }
    if (state !== 'joining') return
    state = 'up'
    log.info({}, 'Redis answers')
    release()
    deps.onUp()
  }

  /** The database was restored from a backup: what Redis holds beyond it never was. */
  async function restart(view: RedisView, stored: Partial<StreamPositions>): Promise<void> {
    const positions = { ...view.positions, ...stored }
    const multi = client.multi().del(keys.positions)
    for (const name of streamNames) if (streams[name].kept === 'postgres') multi.del(keys.log(name))
    for (const name of streamNames) multi.zadd(keys.positions, { score: positions[name] ?? 0, member: name })
    multi.publish(keys.channel, positionsMessage('restored', mainId, redisTime(), positions))
    await multi.exec()
  }

  async function beat(nextEpoch?: string): Promise<void> {
    const sentAt = performance.now()
    const score = redisTime()
    const positions = deps.positions()
    const multi = client.multi()
    for (const name of streamNames) multi.zadd(keys.positions, { gt: true }, { score: positions[name], member: name })
    multi.zadd(keys.beats, { score, member: mainId })
    for (const id of mains?.ids ?? []) {
      // Not heard of in Redis: until it beats, nobody vouches for what it has written.
      if (id !== mainId && !beats.has(id)) multi.zadd(keys.beats, { nx: true }, { score: 0, member: id })
    }
    if (nextEpoch) multi.set(keys.epoch, nextEpoch)
    else multi.set(keys.epoch, newEpoch(), { nx: true })
    const epochAt = multi.length() - 1
    multi.publish(keys.channel, positionsMessage('beat', mainId, score, positions))
    multi.time().zrange(keys.positions, 0, -1, { withScores: true })
    multi.zrange(keys.beats, 0, -1, { withScores: true })
    lapsesAt = sentAt + beatFreshMs + slackMs
    const reply: unknown[] = await multi.exec()
    const [time, at, beating] = reply.slice(-3)
    heard(parseTime(time))
    deps.onPositions(parsePositions(at))
    beats = parseScores(beating)
    // There was none: Redis was emptied under us.
    if (!nextEpoch && reply[epochAt] !== null) deps.onUp()
    schedule(beatEveryMs, pulse)
  }

  async function pulse(): Promise<void> {
    try {
      // Not awaited: a database that hangs is noticed by the age of what is known.
      void readMains()
      if (state !== 'up') return
      // Not knowing who else writes, this one vouches for nothing; nor can it commit without the database.
      if (knowsMains()) await beat()
      else schedule(beatEveryMs, pulse)
      await forgetGone()
    } catch (error) {
      lost(error)
    }
  }

  function knowsMains(): boolean {
    return mains !== undefined && performance.now() - mains.at <= mainsKnownMs
  }

  /** Never rejects. */
  async function readMains(): Promise<void> {
    if (readingMains || (mains && performance.now() - mains.at < mainsEveryMs)) return
    readingMains = true
    const at = performance.now()
    try {
      const rows = v.parse(mainRow, [...(await sql`select id from mains`)])
      mains = { ids: new Set(rows.map((row) => row.id)), at }
    } catch (error) {
      log.warn({ err: error }, 'the list of mains could not be read')
    } finally {
      readingMains = false
    }
  }

  /** Mains that ended without a farewell. Whoever took over their shards has fenced them, so all that they committed is in
   *  the database's positions by now. */
  async function forgetGone(): Promise<void> {
    const now = redisTime()
    const stale = [...beats].filter(([id, at]) => id !== mainId && !isFreshBeat(at, now)).map(([id]) => id)
    if (stale.length === 0) return
    const gone = stale.filter((id) => !mains?.ids.has(id))
    if (gone.length === 0) return
    const stored = await gaps.stored()
    const multi = client.multi()
    for (const [name, position] of Object.entries(stored)) {
      multi.zadd(keys.positions, { gt: true }, { score: position, member: name })
    }
    // What they did not get to say, shared caches have not heard.
    await multi
      .set(keys.epoch, newEpoch())
      .zrem(keys.beats, ...gone)
      .exec()
    log.info({ mains: gone }, 'positions of mains that are gone are in Redis: it answers for them again')
  }

  beating = probe()

  return {
    up: () => state !== 'away',
    redisTime,
    lost,
    heldBack() {
      if (state !== 'away') return undefined
      lapsesAt ??= performance.now() + unknownMainMs
      if (performance.now() >= lapsesAt) return undefined
      if (!held) {
        held = Promise.withResolvers()
        armHold()
      }
      return held.promise
    },
    async close() {
      closed = true
      cancelTimer()
      await beating
      cancelTimer()
      release()
      if (state !== 'up') return
      // Everything was acknowledged: readers need not wait for this one's beats any more.
      await client.zadd(keys.beats, { score: farewell, member: mainId }).catch((error: unknown) => lost(error))
    },
  }
}

function newEpoch(): string {
  return randomBytes(6).toString('hex')
}
