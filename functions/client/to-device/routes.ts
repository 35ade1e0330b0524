import * as dehydrated from './dehydrated.ts'
import { sendToDevice } from './send.ts'

export const toDeviceRoutes = [sendToDevice, ...Object.values(dehydrated)] as const
