/** Everything that the sync role serves. */
import { getSync } from './get-sync.ts'
import { postSlidingSync } from './sliding/post-sync.ts'

export const syncRoutes = [getSync, postSlidingSync] as const
