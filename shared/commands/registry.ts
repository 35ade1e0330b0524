/** Every command, in one list; the client and the handlers have this shape. */
import { accountTermsCommands } from './account-terms.ts'
import { accountCommands } from './accounts.ts'
import { backfillCommands } from './backfill.ts'
import type { CommandClient } from './define.ts'
import { delayedEventCommands } from './delayed-events.ts'
import { federationCommands } from './federation.ts'
import { federationMembershipCommands } from './federation-membership.ts'
import { keyCommands } from './keys.ts'
import { mediaCommands } from './media.ts'
import { pushRuleCommands } from './push-rules.ts'
import { pusherCommands } from './pushers.ts'
import { registrationTokenCommands } from './registration-tokens.ts'
import { reportCommands } from './reports.ts'
import { roomKeyCommands } from './room-keys.ts'
import { roomCommands } from './rooms.ts'
import { serverNoticeCommands } from './server-notices.ts'
import { threepidCommands } from './threepids.ts'
import { toDeviceCommands } from './to-device.ts'
import { urlPreviewCommands } from './url-previews.ts'
import { userDataCommands } from './user-data.ts'

export const commands = {
  ...accountCommands,
  ...roomCommands,
  ...userDataCommands,
  ...pushRuleCommands,
  ...keyCommands,
  ...toDeviceCommands,
  ...roomKeyCommands,
  ...reportCommands,
  ...pusherCommands,
  ...serverNoticeCommands,
  ...urlPreviewCommands,
  ...mediaCommands,
  ...threepidCommands,
  ...accountTermsCommands,
  ...delayedEventCommands,
  ...registrationTokenCommands,
  ...federationCommands,
  ...federationMembershipCommands,
  ...backfillCommands,
} as const
export type MainClient = CommandClient<typeof commands>
