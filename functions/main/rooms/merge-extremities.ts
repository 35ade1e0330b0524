/** Keeps a room's forward extremities few: each one more makes every fork dearer to resolve. Where nobody here says anything that
 *  would follow them, an event without content does; no client shows one of this type.
 *  https://spec.matrix.org/v1.19/server-server-api/#pdus */
import { powerLevelOf, requiredLevel } from '../../../shared/core/power-levels.ts'
import type { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { RoomEngine } from './engine.ts'
import { ensureLoaded } from './load-room.ts'
import { authStateOf, type Room } from './room.ts'

export const dummyType = 'org.matrix.dummy_event'
/** As many are left alone. */
const extremitiesMax = 10
/** Events at a time: a room that has still more is looked at again with the next event. */
const eventsMax = 5

export async function mergeExtremities(engine: RoomEngine, room_id: RoomId): Promise<void> {
  for (let i = 0; i < eventsMax; i++) {
    const left = await engine
      .run(room_id, 'mergeExtremities', async ({ room, append }) => {
        if (room.extremities.length <= extremitiesMax) return 0
        await ensureLoaded(engine.deps.sql, room, [
          ['m.room.create', ''],
          ['m.room.power_levels', ''],
        ])
        const sender = someone(room)
        if (!sender) return 0
        await append({ type: dummyType, sender, content: {} })
        return room.extremities.length
      })
      .catch((error: unknown) => {
        // The room may not let even this in, or be another main's by now.
        if (error instanceof MatrixError) return 0
        throw error
      })
    if (left <= extremitiesMax) return
  }
}

/** A member of this server who may send it. */
function someone(room: Room): UserId | undefined {
  const state = authStateOf(room)
  const needed = requiredLevel(room.rules, state, dummyType, false)
  for (const user of room.local_members.keys()) if (powerLevelOf(room.rules, state, user) >= needed) return user
  return undefined
}
