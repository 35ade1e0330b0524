/** Delayed events become due: one timer on the next of all whose users are this process's. What is due stays in the table
 *  until it is sent, so whoever owns the user next goes on. */
import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import type { RoomId } from '../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'

/** Longer than this no timer is set: it looks again in between. */
const lookAgainMs = 3_600_000
const retryMs = 1_000
/** Being sent at the same time; those that failed count until they are tried again. */
const sendingMax = 128

interface Due {
  readonly delay_id: string
  readonly room_id: RoomId
  readonly send_ts: number
}

export interface DelayedSends {
  /** Something is due at this time, at the latest. */
  dueAt(ts: number): void
  /** Users of these shards are this process's from now on: it looks what of theirs is due. */
  gained(shards: readonly number[]): void
  lost(shards: readonly number[]): void
  /** Begins nothing more. What is being sent comes to its end, here or in the table. */
  close(): Promise<void>
}

export interface DelayedSendsDeps {
  readonly sql: MainSql
  readonly clock: Clock
  readonly send: MainClient['sendDelayedEvent']
  readonly onError: (error: unknown) => void
}

export function createDelayedSends(deps: DelayedSendsDeps): DelayedSends {
  const { sql, clock, send, onError } = deps
  /** Of this process's users. What is asked for is theirs alone, also before the first command on the shard is taken. */
  const shards = new Set<number>()
  /** By delay_id. */
  const sending = new Map<string, Promise<void>>()
  /** The last of each room: those of one room go in the order in which they are due. */
  const lastOfRoom = new Map<RoomId, Promise<void>>()
  let closed = false
  let armedTs = Number.POSITIVE_INFINITY
  let cancel = () => {}
  let looking: Promise<void> | undefined
  let again = false

  function arm(ts: number): void {
    if (closed || ts >= armedTs) return
    const delayMs = ts - clock.now()
    if (delayMs <= 0) {
      look()
      return
    }
    cancel()
    armedTs = ts
    cancel = clock.after(Math.min(delayMs, lookAgainMs), () => {
      armedTs = Number.POSITIVE_INFINITY
      look()
    })
  }

  function look(): void {
    again = true
    if (!closed) looking ??= lookOn()
  }

  async function lookOn(): Promise<void> {
    try {
      while (again && !closed) {
        again = false
        await pass()
      }
    } catch (error) {
      if (!closed) onError(error)
      arm(clock.now() + retryMs)
    } finally {
      looking = undefined
    }
  }

  async function pass(): Promise<void> {
    const free = sendingMax - sending.size
    // Who is done looks again.
    if (free <= 0) return
    const found = await next(free)
    const now = clock.now()
    for (const due of found) {
      if (due.send_ts > now) {
        arm(due.send_ts)
        return
      }
      begin(due, now)
    }
    if (found.length === free) again = true
  }

  async function next(count: number): Promise<Due[]> {
    if (shards.size === 0) return []
    const busy = sql.array([...sending.keys()], 25)
    const mine = sql.array([...shards], 20)
    return sql<Due[]>`
      select delay_id, room_id, send_ts from delayed_events
      where finalised_ts is null and shard = any(${mine}::bigint[]) and delay_id <> all(${busy}::text[])
      order by send_ts, place limit ${count}`
  }

  function begin(due: Due, now: number): void {
    const { delay_id, room_id } = due
    const before = lastOfRoom.get(room_id)
    const mine = (async () => {
      await before
      if (closed) return
      try {
        await send({ delay_id, room_id, due_ts: now })
      } catch (error) {
        if (closed) return
        onError(error)
        await new Promise<void>((resolve) => clock.after(retryMs, resolve))
      }
    })()
    sending.set(delay_id, mine)
    lastOfRoom.set(room_id, mine)
    void mine.finally(() => {
      sending.delete(delay_id)
      if (lastOfRoom.get(room_id) === mine) lastOfRoom.delete(room_id)
      look()
    })
  }

  return {
    dueAt: arm,
    gained(more) {
      for (const shard of more) shards.add(shard)
      look()
    },
    lost(fewer) {
      for (const shard of fewer) shards.delete(shard)
    },
    async close() {
      closed = true
      cancel()
      await looking
    },
  }
}
