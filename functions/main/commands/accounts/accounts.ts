/** Wires the account commands; `createMain` takes their handlers. */
import type { accountCommands } from '../../../../shared/commands/accounts.ts'
import type { registrationTokenCommands } from '../../../../shared/commands/registration-tokens.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { accountHandlers } from './account.ts'
import type { AccountDeps } from './deps.ts'
import { deviceHandlers } from './devices.ts'
import { interactiveAuthHandlers } from './interactive-auth.ts'
import { openIdHandlers } from './openid.ts'
import { createPasswords } from './passwords.ts'
import { profileHandlers } from './profile.ts'
import { registrationTokenHandlers } from './registration-tokens.ts'
import { sessionHandlers } from './sessions.ts'

export function createAccounts(
  given: Omit<AccountDeps, 'passwords'>,
): Pick<MainClient, keyof typeof accountCommands | keyof typeof registrationTokenCommands> {
  const deps: AccountDeps = {
    ...given,
    passwords: createPasswords({ rounds: given.config.password.bcrypt_rounds }),
  }
  return {
    ...accountHandlers(deps),
    ...sessionHandlers(deps),
    ...deviceHandlers(deps),
    ...profileHandlers(deps),
    ...interactiveAuthHandlers(deps),
    ...openIdHandlers(deps),
    ...registrationTokenHandlers(deps),
  }
}
