/** One task at a time a room, all rooms side by side. A task that holds its room past the deadline is reported, and the
 *  room goes on without it. */
import type { Clock } from '../../../shared/clock.ts'
import type { RoomId } from '../../../shared/matrix/ids.ts'

export interface StalledTask {
  readonly room_id: RoomId
  /** What held the room. */
  readonly holder: string
  readonly heldMs: number
  readonly waiting: number
}

export interface RoomQueues {
  /** Runs `task` when the tasks before it have ended or were given up. `holder` names it in reports. */
  run<T>(room_id: RoomId, holder: string, task: () => Promise<T>): Promise<T>
  /** Rooms that have a task. */
  readonly active: number
}

interface Queue {
  waiting: (() => void)[]
}

export function createRoomQueues(deps: {
  readonly clock: Clock
  readonly deadlineMs: number
  readonly onStall: (stalled: StalledTask) => void
}): RoomQueues {
  const { clock, deadlineMs, onStall } = deps
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
        await new Promise<void>((resolve) => waiting.push(resolve))
      } else {
        queue = { waiting: [] }
        queues.set(room_id, queue)
      }
      const mine = queue
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
