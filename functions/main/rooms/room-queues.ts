/** One task at a time a room, all rooms side by side. A task that holds its room past the deadline is reported, and the
 *  room goes on without it. Those who wait for one room are bounded, so that it cannot take the others' memory. */
import type { Clock } from '../../../shared/clock.ts'
import type { RoomId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { checkDeadline } from '../command-call.ts'

export interface StalledTask {
  readonly room_id: RoomId
  /** What held the room. */
  readonly holder: string
  readonly heldMs: number
  readonly waiting: number
}

export interface RoomQueues {
  /** Runs `task` when the tasks before it have ended or were given up. `holder` names it in reports. Throws M_LIMIT_EXCEEDED
   *  where too many wait for the room already, M_UNAVAILABLE where the caller no longer waits when its turn comes. */
  run<T>(room_id: RoomId, holder: string, task: () => Promise<T>): Promise<T>
  /** Rooms that have a task. */
  readonly active: number
}

const busyRoomRetryMs = 1_000

interface Queue {
  waiting: (() => void)[]
}

export function createRoomQueues(deps: {
  readonly clock: Clock
  readonly deadlineMs: number
  /** Tasks that may wait for one room. */
  readonly waitingMax: number
  readonly onStall: (stalled: StalledTask) => void
}): RoomQueues {
  const { clock, deadlineMs, waitingMax, onStall } = deps
  const queues = new Map<RoomId, Queue>()

  function advance(room_id: RoomId, queue: Queue): void {
    const next = queue.waiting.shift()
    if (next) next()
    else queues.delete(room_id)
  }

  return {
    async run(room_id, holder, task) {
      let queue = queues.get(room_id)
      if (queue) {
        const { waiting } = queue
        if (waiting.length >= waitingMax) {
          throw new MatrixError('M_LIMIT_EXCEEDED', 'Too much is being sent to this room', {
            extra: { retry_after_ms: busyRoomRetryMs },
          })
        }
        await new Promise<void>((resolve) => waiting.push(resolve))
      } else {
        queue = { waiting: [] }
        queues.set(room_id, queue)
      }
      const mine = queue
      try {
        checkDeadline(clock)
      } catch (error) {
        advance(room_id, mine)
        throw error
      }
      const since = clock.now()
      let held = true
      const release = () => {
        if (!held) return
        held = false
        advance(room_id, mine)
      }
      const cancel = clock.after(deadlineMs, () => {
        if (!held) return
        onStall({ room_id, holder, heldMs: clock.now() - since, waiting: mine.waiting.length })
        release()
      })
      try {
        return await task()
      } finally {
        cancel()
        release()
      }
    },
    get active() {
      return queues.size
    },
  }
}
