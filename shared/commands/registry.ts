/** Every command, in one list; the client and the handlers have this shape. */
import { accountCommands } from './accounts.ts'
import type { CommandClient } from './define.ts'
import { pushRuleCommands } from './push-rules.ts'
import { reportCommands } from './reports.ts'
import { roomCommands } from './rooms.ts'
import { userDataCommands } from './user-data.ts'

export const commands = {
  ...accountCommands,
  ...roomCommands,
  ...userDataCommands,
  ...pushRuleCommands,
  ...reportCommands,
} as const
export type MainClient = CommandClient<typeof commands>
