/** Everything that the sync role serves. */
import { getSync } from './get-sync.ts'
import { getEvents } from './old-events.ts'
import { getInitialSync } from './old-sync.ts'
import { postSlidingSync } from './sliding/post-sync.ts'

export const syncRoutes = [getSync, postSlidingSync, getInitialSync, getEvents] as const
