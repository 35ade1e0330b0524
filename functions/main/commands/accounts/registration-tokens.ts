/** Registration tokens: how many accounts may be made with each, and until when.
 *  https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration */

import type { registrationTokenCommands } from '../../../../shared/commands/registration-tokens.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { registrationTokensMax } from '../../../../shared/storage/registration-tokens.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { isRefused, isUniqueViolation } from '../../persist/commit-connection.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import type { AccountDeps } from './deps.ts'

export function registrationTokenHandlers(
  deps: Pick<AccountDeps, 'sql' | 'committer' | 'clock'>,
): Pick<MainClient, keyof typeof registrationTokenCommands> {
  const { sql, committer, clock } = deps

  async function known(token: string): Promise<void> {
    const [row] = await sql`select from registration_tokens where token = ${pgText(token)}`
    if (!row) throw new MatrixError('M_NOT_FOUND', 'There is no such registration token')
  }

  return {
    async createRegistrationToken({ token, uses_allowed, expiry_ts }) {
      const taken = () => new MatrixError('M_INVALID_PARAM', 'There is such a registration token already')
      const [found] = await sql<{ taken: boolean; count: number }[]>`
        select exists (select from registration_tokens where token = ${pgText(token)}) as taken,
          (select count(*) from registration_tokens) as count`
      if (found?.taken) throw taken()
      if ((found?.count ?? 0) >= registrationTokensMax) {
        throw new MatrixError('M_INVALID_PARAM', `There are ${registrationTokensMax} tokens: delete some first`)
      }
      const added: Writes = {
        also: (tx) => [
          tx`insert into registration_tokens (token, uses_allowed, expiry_ts, created_ts)
            values (${pgText(token)}, ${uses_allowed ?? null}, ${expiry_ts ?? null}, ${clock.now()})`,
        ],
      }
      await committer.commit(joinWrites(added, answered({ token }))).catch((error: unknown) => {
        throw isUniqueViolation(error, 'registration_tokens_pkey') ? taken() : error
      })
      return { token }
    },

    async updateRegistrationToken({ token, uses_allowed, expiry_ts }) {
      await known(token)
      await committer.commit({
        also: (tx) => [
          ...(uses_allowed === undefined
            ? []
            : [tx`update registration_tokens set uses_allowed = ${uses_allowed} where token = ${pgText(token)}`]),
          ...(expiry_ts === undefined
            ? []
            : [tx`update registration_tokens set expiry_ts = ${expiry_ts} where token = ${pgText(token)}`]),
        ],
      })
      return { token }
    },

    async deleteRegistrationToken({ token }) {
      await known(token)
      const removed: Writes = { also: (tx) => [tx`delete from registration_tokens where token = ${pgText(token)}`] }
      await committer.commit(joinWrites(removed, answered({})))
      return {}
    },
  }
}

/** Whether the commit failed because the token, or the session that was to hold it, is not good any more. */
export function isTokenRefused(error: unknown): boolean {
  return isRefused(error) && error.code === 'GN004'
}
