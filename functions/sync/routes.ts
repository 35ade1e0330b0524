/** Everything that the sync role serves. */
import { getSync } from './get-sync.ts'
import { getEvents } from './old-events.ts'
import { getInitialSync } from './old-sync.ts'

export const syncRoutes = [getSync, getInitialSync, getEvents] as const
