/** Tokens by which a user proves to another service who they are.
 *  https://spec.matrix.org/v1.19/client-server-api/#openid */
import { newToken, tokenHash, tokenHashBytes } from '../../../../shared/auth/tokens.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { AccountDeps } from './deps.ts'

const lifetimeMs = 60 * 60_000

export function openIdHandlers({ committer, clock }: AccountDeps): Pick<MainClient, 'createOpenIdToken'> {
  return {
    async createOpenIdToken({ user_id }) {
      const access_token = newToken('got', user_id)
      const token_hash = tokenHashBytes(tokenHash(access_token))
      await committer.commit({
        also: (tx) => [
          tx`insert into openid_tokens (token_hash, user_id, expires_ts)
            values (${token_hash}, ${user_id}, ${clock.now() + lifetimeMs})`,
        ],
      })
      return { access_token, expires_in_ms: lifetimeMs }
    },
  }
}
