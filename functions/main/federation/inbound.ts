/** Events that other servers send. Those whose room has all that they build on are stored at once; the others wait, durably
 *  and in their order, until what is missing was fetched. One room's gap keeps no other room waiting. */
import type { Clock } from '../../../shared/clock.ts'
import type { MainClient } from '../../../shared/commands/registry.ts'
import { shardOf } from '../../../shared/commands/shards.ts'
import { rulesOf } from '../../../shared/core/room-versions.ts'
import { RemoteError } from '../../../shared/federation/federation-client.ts'
import type { Logger } from '../../../shared/logging.ts'
import { pduFromStored, type StoredEvent } from '../../../shared/matrix/event-format.ts'
import type { RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import type { RoomEngine } from '../rooms/engine.ts'
import { mergeExtremities } from '../rooms/merge-extremities.ts'
import { type Receipt, receiveEvents } from '../rooms/receive-events.ts'
import { ShardMovedError } from '../shards/ownership.ts'
import type { EventFetcher } from './fetch-events.ts'
import { receiveWithGaps, UnfoundedError } from './fill-gap.ts'
import { createGate } from './gate.ts'
import { isPassing, receiveEach } from './receive-each.ts'
import { nextStaged, stagedRooms, stageEvents, unstage } from './staging.ts'

export interface InboundDeps {
  readonly sql: MainSql
  readonly clock: Clock
  readonly engine: RoomEngine
  readonly fetcher: EventFetcher
  readonly log: Pick<Logger, 'error'> & Partial<Pick<Logger, 'info'>>
}

export interface Inbound {
  readonly receivePdus: MainClient['receivePdus']
  /** Goes on with what waits in the rooms of these shards. */
  gained(shards: readonly number[]): void
  /** Begins nothing more; what waits stays. */
  close(): Promise<void>
}

/** Rooms that fetch at the same time. */
const roomsMax = 16
/** Waiting events that are looked at together. */
const pageMax = 50
const retryMs = 1_000

export function createInbound(deps: InboundDeps): Inbound {
  const { sql, clock, engine, log } = deps
  const working = new Map<RoomId, Promise<void>>()
  const again = new Set<RoomId>()
  const tidying = new Map<RoomId, Promise<void>>()
  const gate = createGate(roomsMax)
  let closed = false
  const timers = new Set<() => void>()

  function receive(room_id: RoomId, events: readonly StoredEvent[]): Promise<Receipt[]> {
    return receiveEach(
      events,
      (some) => receiveEvents(engine, room_id, some),
      ({ pdu: { event_id } }, err) =>
        log.error({ err, room_id, event_id }, 'an event was dropped: it could not be taken'),
    )
  }

  /** Not waited for: it is for those who come next. */
  function tidy(room_id: RoomId, receipts: readonly Receipt[]): void {
    if (closed || tidying.has(room_id) || !receipts.some((receipt) => receipt.outcome === 'accepted')) return
    const work = mergeExtremities(engine, room_id)
      .catch((err: unknown) => {
        if (!closed)
          log.error({ err, room_id }, 'the ends of a room could not be brought together; the next event tries again')
      })
      .finally(() => tidying.delete(room_id))
    tidying.set(room_id, work)
  }

  /** Takes up the room's waiting events; who does so already looks once more. */
  function takeUp(room_id: RoomId): void {
    if (closed) return
    if (working.has(room_id)) {
      again.add(room_id)
      return
    }
    const work = gate
      .pass(() => workOn(room_id))
      .catch((err: unknown) => {
        // Whoever owns the room goes on.
        if (closed || err instanceof ShardMovedError) return
        log.error({ err, room_id }, 'events of another server could not be processed; it is tried again')
        const cancel = clock.after(retryMs, () => {
          timers.delete(cancel)
          takeUp(room_id)
        })
        timers.add(cancel)
      })
      .finally(() => {
        working.delete(room_id)
        if (again.delete(room_id)) takeUp(room_id)
      })
    working.set(room_id, work)
  }

  async function workOn(room_id: RoomId): Promise<void> {
    const room = await engine.tryRun(room_id, 'staged', async (task) => task.room)
    while (room && !closed) {
      const page = await nextStaged(sql, room, pageMax)
      if (page.length === 0) return
      const receipts = await receive(
        room_id,
        page.map((one) => one.event),
      )
      tidy(room_id, receipts)
      const at = receipts.findIndex((receipt) => receipt.outcome === 'missing')
      const waiting = page[at]
      await unstage(sql, waiting ? page.slice(0, at) : page)
      if (!waiting) continue
      try {
        await receiveWithGaps(deps, room, waiting)
      } catch (err) {
        const { origin, event } = waiting
        const { event_id } = event.pdu
        if (err instanceof RemoteError || err instanceof UnfoundedError) {
          const fields = { room_id, event_id, origin, reason: err.message }
          log.info?.(fields, 'an event was dropped: what it builds on could not be had')
        } else if (isPassing(err)) throw err
        else log.error({ err, room_id, event_id, origin }, 'an event was dropped: it could not be taken')
      }
      await unstage(sql, [waiting])
    }
  }

  return {
    async receivePdus({ room_id, room_version, origin, events: texts }) {
      const rules = rulesOf(room_version)
      if (!rules) throw new MatrixError('M_UNSUPPORTED_ROOM_VERSION', `Room version ${room_version} is not known`)
      const events = texts.map(({ event_id, envelope, content }) => ({
        pdu: pduFromStored(rules, event_id, room_id, envelope, content),
        envelope,
        content,
      }))
      // What comes behind waiting events waits too: it follows them, most likely.
      const isBehind = working.has(room_id)
      const receipts = isBehind ? [] : await receive(room_id, events)
      tidy(room_id, receipts)
      const waiting = isBehind ? events : events.filter((_, i) => receipts[i]?.outcome === 'missing')
      if (waiting.length === 0) return {}
      const room = await engine.run(room_id, 'stage', async (task) => task.room)
      if (!(await stageEvents(sql, room, { origin, now: clock.now(), events: waiting }))) {
        throw new MatrixError('M_LIMIT_EXCEEDED', 'Too many events of this room are waiting', {
          extra: { retry_after_ms: 30_000 },
        })
      }
      takeUp(room_id)
      return {}
    },
    gained(shards) {
      const ours = new Set(shards)
      stagedRooms(sql)
        .then((rooms) => {
          for (const room_id of rooms) if (ours.has(shardOf(room_id))) takeUp(room_id)
        })
        .catch((err: unknown) => log.error({ err }, 'events that wait for what they build on could not be read'))
    },
    async close() {
      closed = true
      for (const cancel of timers) cancel()
      await Promise.allSettled([...working.values(), ...tidying.values()])
    },
  }
}
