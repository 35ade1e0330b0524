/** Every route of the client role. */
import { accountRoutes } from './accounts/routes.ts'
import { discoveryRoutes } from './discovery/routes.ts'
import { destinationRoutes } from './federation/destinations.ts'
import { keyRoutes } from './keys/routes.ts'
import { profileRoutes } from './profile/profile.ts'
import { pushRuleRoutes } from './push-rules.ts'
import { pusherRoutes } from './pushers.ts'
import { readRoutes } from './read/routes.ts'
import { roomKeyRoutes } from './room-keys/routes.ts'
import { roomRoutes } from './rooms/routes.ts'
import { serverNoticeRoutes } from './server-notices.ts'
import { statusRoutes } from './status/routes.ts'
import { toDeviceRoutes } from './to-device/routes.ts'
import { userDataRoutes } from './user-data/routes.ts'

export const clientRoutes = [
  ...accountRoutes,
  ...profileRoutes,
  ...roomRoutes,
  ...readRoutes,
  ...discoveryRoutes,
  ...pushRuleRoutes,
  ...pusherRoutes,
  ...userDataRoutes,
  ...keyRoutes,
  ...roomKeyRoutes,
  ...toDeviceRoutes,
  ...serverNoticeRoutes,
  ...statusRoutes,
  ...destinationRoutes,
] as const
