/** Consent to the policies. https://spec.matrix.org/v1.19/client-server-api/#terms-of-service-at-registration */
import type { Clock } from '../../../../shared/clock.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { Config } from '../../../../shared/config/schema.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { currentConsent, policiesIn, registerOperation } from '../../../../shared/policies.ts'
import { type MainSql, pgText } from '../../../../shared/storage/sql.ts'
import { isToken, type LinkTokens } from '../../link-tokens.ts'
import type { Committer, Writes } from '../../persist/writes.ts'
import { uiaSessionLifetimeMs } from './interactive-auth.ts'

/** A user who comes later gets another link with the next refusal. */
const linkLifetimeMs = 7 * 24 * 60 * 60_000

/** What is stored of a consent: each policy with its version, and all of it in one for those who ask at every request. */
export function consentWrites(user_id: UserId, consent: string, now: number): Writes {
  const policies = policiesIn(consent)
  return {
    invalidations: [{ cache: 'user_tokens', key: user_id }],
    also: (tx) => [
      tx`update users set consent = ${consent} where user_id = ${user_id}`,
      ...policies.map(
        ({ policy, version }) =>
          tx`insert into user_consents (user_id, policy, version, given_ts)
            values (${user_id}, ${policy}, ${version}, ${now}) on conflict do nothing`,
      ),
    ],
  }
}

export function consentHandlers({
  sql,
  committer,
  clock,
  config,
  links,
}: {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  readonly config: Config
  readonly links: LinkTokens
}): Pick<MainClient, 'createConsentToken' | 'giveConsent' | 'agreeAtRegistration'> {
  const tokenUntil = (user_id: UserId, until: number) =>
    `${until.toString(36)}.${links.of(['consent', user_id, until])}`

  return {
    async createConsentToken({ user_id }) {
      return { token: tokenUntil(user_id, clock.now() + linkLifetimeMs) }
    },
    async giveConsent({ user_id, token, consent }) {
      const now = clock.now()
      const until = Number.parseInt(token, 36)
      if (!(until > now) || !isToken(token, tokenUntil(user_id, until))) {
        throw new MatrixError('M_FORBIDDEN', 'This link is not good any more: your app gives you another one')
      }
      if (consent !== currentConsent(config)) {
        throw new MatrixError(
          'M_INVALID_PARAM',
          'The policies have changed since this page was opened: read them again',
        )
      }
      const [user] = await sql`select from users where user_id = ${user_id} and not deactivated`
      if (!user) throw new MatrixError('M_FORBIDDEN', 'There is no such account')
      await committer.commit(consentWrites(user_id, consent, now))
      return {}
    },
    async agreeAtRegistration({ session }) {
      const session_id = pgText(session)
      const operation = registerOperation(config)
      const [row] = await sql`
        select from uia_sessions where session_id = ${session_id} and operation = ${operation}
          and created_ts > ${clock.now() - uiaSessionLifetimeMs}`
      if (!row || currentConsent(config) === undefined || !config.policies.at_registration) {
        throw new MatrixError('M_FORBIDDEN', 'This session is over: begin anew in your app')
      }
      await committer.commit({
        also: (tx) => [
          // In the statement itself: other stages may pass at the same time.
          tx`update uia_sessions set completed = (completed::jsonb || '["m.login.terms"]')::text
            where session_id = ${session_id} and not completed::jsonb ? 'm.login.terms'`,
        ],
      })
      return {}
    },
  }
}
