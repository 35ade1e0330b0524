/** Indexes are written right after the commits that they follow. Who asks one waits for what was acknowledged before. */
import { setTimeout as sleep } from 'node:timers/promises'
import { indexPositions } from '../../../shared/storage/index-cursors.ts'
import type { ClientDeps } from '../deps.ts'

const lookEveryMs = 20
/** After that the answer is of what the index has: a main may be about to take over. */
const looksMax = 50

export async function indexCaughtUp({ sql, replication }: ClientDeps, name: 'messages' | 'users'): Promise<void> {
  const { events, invalidations } = replication.positions()
  for (let looks = 0; looks < looksMax; looks++) {
    if (looks > 0) await sleep(lookEveryMs)
    const at = await indexPositions(sql, name)
    if (at.events >= events && (name === 'messages' || at.invalidations >= invalidations)) return
  }
}
