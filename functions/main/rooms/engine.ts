/** The room engine: one task at a time a room, all rooms side by side. A task builds events on the room in memory and hands
 *  its writes over; the next task goes on without waiting for the commit, so sends that come together share one.
 *  When a commit fails, the copy in memory is dropped, and what was built on it is tried again on the stored room. */
import { shardOf } from '../../../shared/commands/shards.ts'
import type { EventId, RoomId, UserId } from '../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../shared/matrix/json-value.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type Committer, joinWrites, type Writes } from '../persist/writes.ts'
import { ShardMovedError } from '../shards/ownership.ts'
import type { AppendDeps } from './advance.ts'
import { type Appended, appendEvent, type Draft } from './append.ts'
import { ensureLoaded, loadRoom } from './load-room.ts'
import { membershipOf, type Room, statePdu } from './room.ts'
import { createRoomQueues, type StalledTask } from './room-queues.ts'
import { createWarmRooms } from './warm-rooms.ts'

export interface RoomEngineDeps extends AppendDeps {
  readonly committer: Committer
  /** Budget for rooms in memory, in bytes. */
  readonly warmRoomsBytes: number
  /** A task that holds a room longer is given up on. */
  readonly taskDeadlineMs?: number
  /** Tasks that may wait for one room; absent: any number. */
  readonly waitingPerRoomMax?: number
  readonly onStall: (stalled: StalledTask) => void
  /** Whether this process writes the room, where several share the rooms; absent: all rooms are its own. */
  readonly isOwn?: ((room_id: RoomId) => boolean) | undefined
}

/** What a task sees: a room that nobody else changes meanwhile. */
export interface RoomTask {
  readonly room: Room
  append(draft: Draft): Promise<Appended>
  /** Writes that are to join the commit beside those of the appended events. */
  write(writes: Writes): void
  /** Resolves when what earlier tasks appended is stored. */
  drained(): Promise<void>
}

export interface PreparedRoom extends RoomTask {
  /** What was appended and written, for a commit. */
  writes(): Writes
  /** To be called when that is stored: the room is warm from then on. */
  adopted(): void
}

export interface MemberProfile {
  readonly displayname?: string | undefined
  readonly avatar_url?: string | undefined
}

export interface RoomEngine {
  readonly deps: RoomEngineDeps
  /** Runs the task and resolves with its result once what it appended is stored. Throws M_NOT_FOUND for a room that this
   *  server does not know. The task may run again if the room's copy in memory turned out to be lost. */
  run<T>(room_id: RoomId, holder: string, task: (task: RoomTask) => Promise<T>): Promise<T>
  /** As `run`, but resolves with undefined where the room is not known. */
  tryRun<T>(room_id: RoomId, holder: string, task: (task: RoomTask) => Promise<T>): Promise<T | undefined>
  /** A room that does not exist yet: the first event appended must be its create event. */
  prepare(room: Room): PreparedRoom
  /** Stores a prepared room, all in one commit. */
  createPrepared(prepared: PreparedRoom): Promise<void>
  /** Appends events one after the other, in one commit. */
  sendMany(room_id: RoomId, drafts: readonly Draft[]): Promise<EventId[]>
  /** Sends the member events that a new profile makes in every room the user is joined to. `update` does it in one room,
   *  wherever that room is written; absent: here. */
  memberProfileChanged(
    user_id: UserId,
    profile: MemberProfile,
    update?: (room_id: RoomId) => Promise<unknown>,
  ): Promise<void>
  /** Puts the profile into the user's member event in one room, if they are joined and it does not say so already. */
  updateMemberProfile(room_id: RoomId, user_id: UserId, profile: MemberProfile): Promise<void>
  /** The room was written past its copy in memory, which is read anew. */
  outdated(room_id: RoomId): void
  /** Rooms became this process's: what it remembers of them from earlier may be out of date. */
  roomsGained(isGained: (room_id: RoomId) => boolean): void
  /** Others write these rooms from now on. Nothing may be under way in them. */
  roomsLost(isLost: (room_id: RoomId) => boolean): void
  readonly stats: { readonly warmRooms: number; readonly warmBytes: number; readonly busyRooms: number }
  /** Waits for what is under way. */
  close(): Promise<void>
}

/** The copy in memory that a task built on is no longer the room. */
class RecycledError extends Error {}

const attemptsMax = 3
const defaultDeadlineMs = 30_000
/** Rooms of one user that take a new profile at the same time. */
const profileFanOut = 16

/** One commit's writes. Parts that say different things, as those of a send do, cost no walk over all that could be. */
function togetherOf(parts: readonly Writes[]): Writes {
  const [first, ...further] = parts
  if (further.length === 0) return first ?? {}
  const together: Record<string, unknown> = { ...first }
  for (const part of further) {
    for (const key in part) {
      if (key in together) return joinWrites(...parts)
      together[key] = part[key as keyof Writes]
    }
  }
  return together
}

export function createRoomEngine(deps: RoomEngineDeps): RoomEngine {
  const { sql, committer } = deps
  const warm = createWarmRooms({ bytesMax: deps.warmRoomsBytes, load: (room_id) => loadRoom(sql, room_id) })
  const queues = createRoomQueues({
    clock: deps.clock,
    deadlineMs: deps.taskDeadlineMs ?? defaultDeadlineMs,
    waitingMax: deps.waitingPerRoomMax ?? Number.POSITIVE_INFINITY,
    onStall(stalled) {
      warm.recycleById(stalled.room_id)
      deps.onStall(stalled)
    },
  })
  const inFlight = new Set<Promise<unknown>>()
  /** Raised when rooms come to this process: a room made before that may have been written by somebody else since. */
  let ownership = 0

  function taskOn(room: Room): { task: RoomTask; parts: Writes[]; changed: () => boolean } {
    const parts: Writes[] = []
    let changed = false
    const task: RoomTask = {
      room,
      async append(draft) {
        if (room.stale) throw new RecycledError()
        const appended = await appendEvent(deps, room, draft)
        changed = true
        parts.push(appended.writes)
        return appended
      },
      write(writes) {
        changed = true
        parts.push(writes)
      },
      drained: () => warm.drained(room),
    }
    return { task, parts, changed: () => changed }
  }

  function forgetChains(parts: readonly Writes[]): void {
    deps.authChains.forget(parts.flatMap((part) => part.auth_chains?.chains.map((place) => place.event_nid) ?? []))
  }

  /** Hands the writes over; the promise rejects after the room's copy is out of the way. */
  function commit(room: Room, parts: readonly Writes[]): Promise<void> {
    room.commits++
    return committer.commit(togetherOf(parts)).then(
      () => warm.commitEnded(room),
      (error: unknown) => {
        // It fell with the write before it: on the stored room it may well stand.
        const onLostGround = room.stale
        warm.recycle(room)
        forgetChains(parts)
        warm.commitEnded(room)
        throw onLostGround && !(error instanceof MatrixError) ? new RecycledError() : error
      },
    )
  }

  /** One attempt: what it returns is not stored before `stored` resolves. */
  async function attempt<T>(
    room_id: RoomId,
    task: (task: RoomTask) => Promise<T>,
  ): Promise<{ result: T; stored: Promise<void> } | undefined> {
    if (deps.isOwn?.(room_id) === false) throw new ShardMovedError(shardOf(room_id))
    const room = await warm.acquire(room_id)
    if (!room) return undefined
    const { task: context, parts, changed } = taskOn(room)
    try {
      const result = await task(context)
      if (room.stale) throw new RecycledError()
      return { result, stored: parts.length > 0 ? commit(room, parts) : Promise.resolve() }
    } catch (error) {
      // Half of what it wanted is in memory, and none of it in the database.
      if (changed()) {
        warm.recycle(room)
        forgetChains(parts)
      }
      throw error
    } finally {
      warm.release(room)
    }
  }

  async function tryRun<T>(
    room_id: RoomId,
    holder: string,
    task: (task: RoomTask) => Promise<T>,
  ): Promise<{ result: T } | undefined> {
    for (let attempts = 1; ; attempts++) {
      let outcome: { result: T; stored: Promise<void> } | undefined
      try {
        outcome = await queues.run(room_id, holder, () => attempt(room_id, task))
        await outcome?.stored
      } catch (error) {
        if (!(error instanceof RecycledError)) throw error
        if (attempts === attemptsMax) {
          throw new MatrixError('M_UNAVAILABLE', 'The room could not be written', { extra: { retry_after_ms: 1000 } })
        }
        continue
      }
      return outcome && { result: outcome.result }
    }
  }

  function tracked<T>(promise: Promise<T>): Promise<T> {
    inFlight.add(promise)
    const forget = () => inFlight.delete(promise)
    promise.then(forget, forget)
    return promise
  }

  function prepare(room: Room): PreparedRoom {
    const { task, parts } = taskOn(room)
    const madeUnder = ownership
    return {
      ...task,
      writes: () => togetherOf(parts),
      // A room that another process writes is as good as any that is not here.
      adopted() {
        if (deps.isOwn === undefined || (madeUnder === ownership && deps.isOwn(room.room_id))) warm.adopt(room)
      },
    }
  }

  const engine: RoomEngine = {
    deps,
    run: (room_id, holder, task) =>
      tracked(
        tryRun(room_id, holder, task).then((outcome) => {
          if (!outcome) throw new MatrixError('M_NOT_FOUND', 'This server does not know the room')
          return outcome.result
        }),
      ),
    tryRun: (room_id, holder, task) => tracked(tryRun(room_id, holder, task).then((outcome) => outcome?.result)),
    prepare,
    async createPrepared(prepared) {
      await tracked(committer.commit(prepared.writes()))
      prepared.adopted()
    },
    sendMany: (room_id, drafts) =>
      engine.run(room_id, 'sendMany', async (task) => {
        const ids: EventId[] = []
        for (const draft of drafts) ids.push((await task.append(draft)).pdu.event_id)
        return ids
      }),
    async memberProfileChanged(
      user_id,
      profile,
      update = (room_id) => engine.updateMemberProfile(room_id, user_id, profile),
    ) {
      const rooms = await sql<{ room_id: RoomId }[]>`
        select r.room_id from memberships m join rooms r using (room_nid)
        where m.user_id = ${user_id} and m.membership = 'join' order by m.position desc`
      const waiting = rooms.map((row) => row.room_id).reverse()
      let unavailable: MatrixError | undefined
      const worker = async () => {
        for (let room_id = waiting.pop(); room_id !== undefined; room_id = waiting.pop()) {
          // A room that refuses (frozen by its power levels, say) keeps the old profile and stops nobody else.
          await update(room_id).catch((error: unknown) => {
            if (!(error instanceof MatrixError)) throw error
            if (error.errcode === 'M_UNAVAILABLE') unavailable = error
          })
        }
      }
      await Promise.all(Array.from({ length: Math.min(profileFanOut, waiting.length) }, worker))
      // Said again, it goes on where it stopped.
      if (unavailable) throw unavailable
    },
    updateMemberProfile: (room_id, user_id, profile) =>
      engine.run(room_id, 'updateMemberProfile', async ({ room, append }) => {
        if (membershipOf(room, user_id) !== 'join') return
        await ensureLoaded(sql, room, [['m.room.member', user_id]])
        const { displayname, avatar_url, ...kept }: JsonObject = statePdu(room, 'm.room.member', user_id)?.content ?? {}
        if (displayname === profile.displayname && avatar_url === profile.avatar_url) return
        // Who let the user in is no longer asked once they are in, and the reason was for the join.
        const { join_authorised_via_users_server: _authorised, reason: _reason, ...content } = kept
        if (profile.displayname !== undefined) content.displayname = profile.displayname
        if (profile.avatar_url !== undefined) content.avatar_url = profile.avatar_url
        await append({ type: 'm.room.member', state_key: user_id, sender: user_id, content })
      }),
    outdated: (room_id) => warm.recycleById(room_id),
    roomsGained(isGained) {
      ownership++
      warm.drop(isGained)
      deps.authChains.forgetChains(isGained)
    },
    roomsLost: (isLost) => warm.drop(isLost),
    stats: {
      get warmRooms() {
        return warm.size
      },
      get warmBytes() {
        return warm.bytes
      },
      get busyRooms() {
        return queues.active
      },
    },
    async close() {
      while (inFlight.size > 0) await Promise.allSettled(inFlight)
    },
  }
  return engine
}
