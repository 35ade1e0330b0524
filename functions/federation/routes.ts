/** Everything that the federation role serves. */
import { getServerKeys } from './server-keys.ts'

export const federationRoutes = [getServerKeys] as const
