/** Who is online: in memory, told to others when it changes. Postgres keeps the last activity alone, written coalesced.
 *  https://spec.matrix.org/v1.19/client-server-api/#presence */
import type { Clock } from '../../../shared/clock.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import type { Presence, WritableEphemeralStore } from '../../../shared/replication/ephemeral-store.ts'
import type { Publisher } from '../../../shared/replication/replication.ts'
import { type MainSql, pgText } from '../../../shared/storage/sql.ts'
import type { PresenceState } from '../../../shared/streams/presence.ts'

/** Without a sync for this long the user is offline. */
const syncLapseMs = 45_000
/** The same without a word of the user's own server. */
const remoteLapseMs = 30 * 60_000
/** Without activity for this long an online user is no longer "currently active"; after the second, unavailable. */
const currentlyActiveMs = 60_000
const idleMs = 5 * 60_000
const sweepMs = 5_000
const flushMs = 60_000

export interface PresenceTracker {
  set(update: { user_id: UserId; presence: PresenceState; status_msg?: string; source: 'sync' | 'client' }): void
  /** Of a user of another server. */
  setRemote(update: {
    user_id: UserId
    presence: PresenceState
    currently_active: boolean
    last_active_ago?: number | undefined
    status_msg?: string | undefined
  }): void
  /** Users whom another process knew as online: they lapse here, unless they are heard of again. */
  adopt(known: readonly Presence[]): void
  /** Another process goes on with it: writes what has not been written, and forgets. */
  abandon(): Promise<void>
  /** Writes what has not been written. */
  close(): Promise<void>
}

interface Tracked {
  shown: Presence
  /** When the user last polled; offline after `syncLapseMs` without. */
  seenTs: number
  /** Its own server says how it is. */
  remote: boolean
  dirty: boolean
}

export function createPresence(deps: {
  sql: MainSql
  publisher: Publisher
  store: WritableEphemeralStore
  clock: Clock
  onError: (error: unknown) => void
  /** Absent: everybody is. */
  isLocal?: (user_id: UserId) => boolean
}): PresenceTracker {
  const { clock } = deps
  const online = new Map<UserId, Tracked>()
  let lastFlushTs = clock.now()
  let closed = false
  let flushing: Promise<void> = Promise.resolve()

  function show(tracked: Tracked, next: Presence): void {
    const before = tracked.shown
    tracked.shown = next
    tracked.dirty = true
    deps.store.setPresence(next)
    const same =
      before.presence === next.presence &&
      before.status_msg === next.status_msg &&
      before.currently_active === next.currently_active
    if (!same) deps.publisher.publishEphemeral('presence', [next])
  }

  function sweep(): void {
    const now = clock.now()
    for (const tracked of online.values()) {
      const { shown } = tracked
      if (shown.presence === 'offline') continue
      if (now - tracked.seenTs > (tracked.remote ? remoteLapseMs : syncLapseMs)) {
        show(tracked, { ...shown, presence: 'offline', currently_active: false })
      } else if (!tracked.remote) idle(tracked, now)
    }
    if (now - lastFlushTs >= flushMs) {
      lastFlushTs = now
      flushing = flush().catch(deps.onError)
    }
  }

  function idle(tracked: Tracked, now: number): void {
    const { shown } = tracked
    if (shown.presence === 'online' && now - shown.last_active_ts > idleMs) {
      show(tracked, { ...shown, presence: 'unavailable', currently_active: false })
    } else if (shown.currently_active && now - shown.last_active_ts > currentlyActiveMs) {
      show(tracked, { ...shown, currently_active: false })
    }
  }

  async function flush(): Promise<void> {
    const dirty = [...online.values()].filter((tracked) => tracked.dirty)
    for (const tracked of dirty) tracked.dirty = false
    // Offline users need no memory here: the store and the table know them.
    for (const [user, tracked] of online) if (tracked.shown.presence === 'offline') online.delete(user)
    if (dirty.length === 0) return
    const rows = dirty.map(({ shown }) => ({
      user_id: shown.user_id,
      state: shown.presence,
      status_msg: shown.status_msg === undefined ? null : pgText(shown.status_msg),
      last_active_ts: shown.last_active_ts,
    }))
    for (let start = 0; start < rows.length; start += 1000) {
      await deps.sql`
        insert into presence ${deps.sql(rows.slice(start, start + 1000))}
        on conflict (user_id) do update set
          state = excluded.state, status_msg = excluded.status_msg, last_active_ts = excluded.last_active_ts
        where presence.last_active_ts <= excluded.last_active_ts`
    }
  }

  let cancel = () => {}
  const tick = () => {
    if (closed) return
    sweep()
    cancel = clock.after(sweepMs, tick)
  }
  cancel = clock.after(sweepMs, tick)

  return {
    set({ user_id, presence, status_msg, source }) {
      const now = clock.now()
      const tracked: Tracked = online.get(user_id) ?? {
        shown: { user_id, presence: 'offline', last_active_ts: now, currently_active: false },
        seenTs: now,
        remote: false,
        dirty: true,
      }
      online.set(user_id, tracked)
      tracked.seenTs = now
      const message = status_msg ?? tracked.shown.status_msg
      // A poll that says "online" shows that the client runs, which is activity unless the user chose otherwise.
      const active = presence === 'online'
      const { status_msg: _, ...rest } = tracked.shown
      show(tracked, {
        ...rest,
        ...(message ? { status_msg: message } : {}),
        presence,
        last_active_ts: active || source === 'client' ? now : tracked.shown.last_active_ts,
        currently_active: active,
      })
    },
    setRemote({ user_id, presence, currently_active, last_active_ago, status_msg }) {
      const now = clock.now()
      const before = online.get(user_id)
      const last_active_ts =
        last_active_ago === undefined ? (before?.shown.last_active_ts ?? now) : now - last_active_ago
      const shown: Presence = {
        user_id,
        presence,
        last_active_ts,
        currently_active,
        ...(status_msg === undefined ? {} : { status_msg }),
      }
      const tracked: Tracked = before ?? {
        shown: { user_id, presence: 'offline', last_active_ts, currently_active: false },
        seenTs: now,
        remote: true,
        dirty: true,
      }
      online.set(user_id, tracked)
      tracked.seenTs = now
      show(tracked, shown)
    },
    adopt(known) {
      const seenTs = clock.now()
      for (const shown of known) {
        if (shown.presence === 'offline' || online.has(shown.user_id)) continue
        const remote = deps.isLocal?.(shown.user_id) === false
        online.set(shown.user_id, { shown, seenTs, remote, dirty: true })
      }
    },
    async abandon() {
      await flushing
      // Whoever comes next must not wait for a database that is away.
      await flush().catch(deps.onError)
      online.clear()
    },
    async close() {
      closed = true
      cancel()
      await flushing
      await flush()
    },
  }
}
