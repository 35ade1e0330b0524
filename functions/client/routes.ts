/** Every route of the client role. */
import { accountRoutes } from './accounts/routes.ts'
import { discoveryRoutes } from './discovery/routes.ts'
import { profileRoutes } from './profile/profile.ts'
import { pushRuleRoutes } from './push-rules.ts'
import { readRoutes } from './read/routes.ts'
import { roomRoutes } from './rooms/routes.ts'
import { statusRoutes } from './status/routes.ts'
import { userDataRoutes } from './user-data/routes.ts'

export const clientRoutes = [
  ...accountRoutes,
  ...profileRoutes,
  ...roomRoutes,
  ...readRoutes,
  ...discoveryRoutes,
  ...pushRuleRoutes,
  ...userDataRoutes,
  ...statusRoutes,
] as const
