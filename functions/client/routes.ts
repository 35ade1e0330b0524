/** Every route of the client role. */
import { accountRoutes } from './accounts/routes.ts'
import { profileRoutes } from './profile/profile.ts'
import { readRoutes } from './read/routes.ts'
import { userDataRoutes } from './user-data/routes.ts'

export const clientRoutes = [...accountRoutes, ...profileRoutes, ...readRoutes, ...userDataRoutes] as const
