/** Third-party ids. https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information */
import { randomBytes } from 'node:crypto'
import type { Clock } from '../../../../shared/clock.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { ThreepidPurpose } from '../../../../shared/commands/threepids.ts'
import type { Config } from '../../../../shared/config/schema.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import type { Medium } from '../../../../shared/matrix/threepid.ts'
import { fromPgText, type MainSql, pgText } from '../../../../shared/storage/sql.ts'
import { userOfThreepid } from '../../../../shared/storage/threepids.ts'
import { answered } from '../../command-call.ts'
import type { KeyedQueue } from '../../keyed-queue.ts'
import { isToken, type LinkTokens } from '../../link-tokens.ts'
import { intoOutbox, type Message, threepidMeaning } from '../../outbox/messages.ts'
import type { Outbox } from '../../outbox/outbox.ts'
import { type Committer, joinWrites } from '../../persist/writes.ts'
import { clientSecretHash, endSession, ifTaken, insertThreepids, provenThreepid, threepidInUse } from './proven.ts'

/** A code has six digits: nobody is to try many. */
const wrongTokensMax = 10
/** Of one user: more is no contact information. */
const threepidsMax = 100

export interface ThreepidDeps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  readonly config: Config
  readonly queue: KeyedQueue
  readonly links: LinkTokens
  readonly outbox: Pick<Outbox, 'wake'>
}

export function threepidHandlers(
  deps: ThreepidDeps,
): Pick<MainClient, 'requestThreepidToken' | 'submitThreepidToken' | 'addThreepid' | 'deleteThreepid'> {
  const { sql, committer, clock, config, queue, links, outbox } = deps
  const lifetimeMs = config.threepid_validation.token_lifetime

  /** What is sent to the address; undefined where there is nothing to send and nobody is to know. */
  function messageFor(purpose: ThreepidPurpose, medium: Medium, sid: string, taken: boolean): Message | undefined {
    switch (purpose) {
      case 'reset':
        if (taken) return { template: 'password_reset', sid }
        if (!config.threepids.hide_existing) {
          throw new MatrixError('M_THREEPID_NOT_FOUND', 'No account has this address')
        }
        return undefined
      case 'register':
      case 'add':
        if (!taken) return { template: purpose === 'add' ? 'add' : 'registration', sid }
        if (!config.threepids.hide_existing) throw threepidInUse()
        // Whose it is may have forgotten; a short message has no room for that.
        return purpose === 'register' && medium === 'email' ? { template: 'already_registered' } : undefined
    }
  }

  return {
    requestThreepidToken: ({ purpose, medium, address, client_secret, send_attempt, next_link }) =>
      queue.run(`threepid ${medium} ${address}`, async () => {
        const now = clock.now()
        const secret_hash = clientSecretHash(client_secret)
        const [known] = await sql<{ session_id: string; send_attempt: number }[]>`
          select session_id, send_attempt from threepid_sessions
          where purpose = ${purpose} and medium = ${medium} and address = ${pgText(address)}
            and client_secret_hash = ${secret_hash} and expires_ts > ${now}`
        const sid = known?.session_id ?? randomBytes(18).toString('base64url')
        const taken = (await userOfThreepid(sql, { medium, address })) !== undefined
        const message = messageFor(purpose, medium, sid, taken)
        // Asked again, but not for another message.
        if (known && send_attempt <= known.send_attempt) return { sid }
        const expires_ts = now + lifetimeMs
        const hollow = message === undefined || message.template === 'already_registered'
        await committer.commit(
          joinWrites(
            {
              also: (tx) => [
                tx`insert into threepid_sessions (session_id, purpose, medium, address, client_secret_hash, send_attempt,
                    hollow, next_link, expires_ts)
                  values (${sid}, ${purpose}, ${medium}, ${pgText(address)}, ${secret_hash}, ${send_attempt}, ${hollow},
                    ${next_link === undefined ? null : pgText(next_link)}, ${expires_ts})
                  on conflict (purpose, medium, address, client_secret_hash) do update set
                    session_id = excluded.session_id, send_attempt = excluded.send_attempt, hollow = excluded.hollow,
                    next_link = excluded.next_link, expires_ts = excluded.expires_ts,
                    wrong_tokens = case when threepid_sessions.session_id = excluded.session_id
                      then threepid_sessions.wrong_tokens else 0 end,
                    validated_ts = case when threepid_sessions.session_id = excluded.session_id
                      then threepid_sessions.validated_ts end`,
                ...(message ? [intoOutbox(tx, { medium, address }, message, { now, expires_ts })] : []),
              ],
            },
            answered({ sid }),
          ),
        )
        outbox.wake()
        return { sid }
      }),

    // One after the other: many at once would all find the count of wrong ones small.
    submitThreepidToken: ({ sid, client_secret, token }) =>
      queue.run(`threepid session ${sid}`, async () => {
        const now = clock.now()
        const session_id = pgText(sid)
        const [row] = await sql<
          {
            medium: Medium
            client_secret_hash: Buffer
            hollow: boolean
            wrong_tokens: number
            next_link: string | null
            expires_ts: number
          }[]
        >`
          select medium, client_secret_hash, hollow, wrong_tokens, next_link, expires_ts
          from threepid_sessions where session_id = ${session_id}`
        if (!row || row.expires_ts <= now || row.wrong_tokens >= wrongTokensMax) {
          throw new MatrixError('M_SESSION_EXPIRED', 'The link or code is too old, or was used: ask for another one')
        }
        const meaning = threepidMeaning(sid)
        const expected = row.medium === 'email' ? links.of(meaning) : links.codeOf(meaning)
        const whose = client_secret === undefined || clientSecretHash(client_secret).equals(row.client_secret_hash)
        // A code alone is not enough: sessions have names that are no secret.
        const named = client_secret !== undefined || row.medium === 'email'
        if (row.hollow || !whose || !named || !isToken(token, expected)) {
          await committer.commit({
            also: (tx) => [
              tx`update threepid_sessions set wrong_tokens = wrong_tokens + 1 where session_id = ${session_id}`,
            ],
          })
          throw new MatrixError('M_TOKEN_INCORRECT', 'This is not the link or code that was sent')
        }
        await committer.commit({
          also: (tx) => [
            // There is as long to use it.
            tx`update threepid_sessions set validated_ts = ${now}, expires_ts = ${now + lifetimeMs}
              where session_id = ${session_id} and validated_ts is null`,
          ],
        })
        return row.next_link === null ? {} : { next_link: fromPgText(row.next_link) }
      }),

    addThreepid: ({ user_id, creds }) =>
      queue.run(user_id, async () => {
        const now = clock.now()
        const proven = await provenThreepid(sql, creds, { purpose: 'add', now })
        if (!proven) throw new MatrixError('M_THREEPID_AUTH_FAILED', 'The address has not been confirmed')
        const { medium, address } = proven
        const [held] = await sql<{ active: boolean; count: number; own: boolean }[]>`
          select exists (select from users where user_id = ${user_id} and not deactivated) as active,
            count(*)::integer as count,
            coalesce(bool_or(medium = ${medium} and address = ${pgText(address)}), false) as own
          from user_threepids where user_id = ${user_id}`
        if (!held?.active) throw new MatrixError('M_USER_DEACTIVATED', 'This account is deactivated')
        if (held.count >= threepidsMax) {
          throw new MatrixError('M_RESOURCE_LIMIT_EXCEEDED', `An account has ${threepidsMax} addresses at most`)
        }
        const added = held.own ? {} : insertThreepids(user_id, [proven], now)
        try {
          await committer.commit(joinWrites(added, endSession(creds.sid), answered({})))
        } catch (error) {
          throw ifTaken(error)
        }
        return {}
      }),

    deleteThreepid: ({ user_id, medium, address }) =>
      queue.run(user_id, async () => {
        await committer.commit({
          also: (tx) => [
            tx`delete from user_threepids
              where user_id = ${user_id} and medium = ${medium} and address = ${pgText(address)}`,
          ],
        })
        return {}
      }),
  }
}
