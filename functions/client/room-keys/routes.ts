import * as keys from './keys.ts'
import * as versions from './versions.ts'

export const roomKeyRoutes = [...Object.values(versions), ...Object.values(keys)] as const
