/** Everything that the sync role serves. */
import { getSync } from './get-sync.ts'

export const syncRoutes = [getSync] as const
