/** Accounts that expire unless they are renewed, as Synapse has them. */
import type postgres from 'postgres'
import type { Clock } from '../../../../shared/clock.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { Config } from '../../../../shared/config/schema.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { fromPgText, type MainSql } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import type { KeyedQueue } from '../../keyed-queue.ts'
import { isToken, type LinkTokens } from '../../link-tokens.ts'
import { intoOutbox, renewalMeaning } from '../../outbox/messages.ts'
import type { Outbox } from '../../outbox/outbox.ts'
import { type Committer, joinWrites, type Writes } from '../../persist/writes.ts'

/** A mail for somebody who is out already is of use for as long. */
const mailLifetimeMs = 7 * 24 * 60 * 60_000

export interface ExpiringUser {
  readonly user_id: UserId
  readonly expires_ts: number
  readonly display_name: string | null
  readonly addresses: readonly string[]
}

/** Those that the condition is true of, soonest first. `v` is account_validity in it. */
export function expiringUsers(sql: MainSql, condition: postgres.Fragment, limit: number) {
  return sql<ExpiringUser[]>`
    select user_id, v.expires_ts, p.display_name, coalesce((select json_agg(address) from user_threepids t
      where t.user_id = v.user_id and t.medium = 'email'), '[]') as addresses
    from account_validity v left join profiles p using (user_id)
    where ${condition} order by v.expires_ts limit ${limit}`
}

/** The mails to a user whose account expires. */
export function renewalMails({ user_id, expires_ts, display_name, addresses }: ExpiringUser, now: number): Writes {
  const message = {
    template: 'renewal',
    user_id,
    display_name: display_name === null ? user_id : fromPgText(display_name),
    account_expires_ts: expires_ts,
  } as const
  const times = { now, expires_ts: now + mailLifetimeMs }
  return {
    also: (tx) => [
      ...addresses.map((address) => intoOutbox(tx, { medium: 'email', address: fromPgText(address) }, message, times)),
      tx`update account_validity set mailed_for_ts = ${expires_ts} where user_id = ${user_id}`,
    ],
  }
}

export function validityHandlers({
  sql,
  committer,
  clock,
  config,
  queue,
  links,
  outbox,
}: {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  readonly config: Config
  readonly queue: KeyedQueue
  readonly links: LinkTokens
  readonly outbox: Pick<Outbox, 'wake'>
}): Pick<MainClient, 'sendRenewalMail' | 'renewAccount' | 'setAccountValidity'> {
  const { enabled, period } = config.account_validity

  const validUntil = (user_id: UserId, expires_ts: number, send_mail = true): Writes => ({
    invalidations: [{ cache: 'user_tokens', key: user_id }],
    also: (tx) => [
      tx`insert into account_validity (user_id, expires_ts, send_mail) values (${user_id}, ${expires_ts}, ${send_mail})
        on conflict (user_id) do update set expires_ts = excluded.expires_ts, send_mail = excluded.send_mail`,
    ],
  })

  return {
    async sendRenewalMail({ user_id }) {
      const [user] = enabled ? await expiringUsers(sql, sql`v.user_id = ${user_id}`, 1) : []
      if (!user) throw new MatrixError('M_FORBIDDEN', 'This account does not expire')
      if (user.addresses.length === 0) {
        throw new MatrixError(
          'M_THREEPID_NOT_FOUND',
          'This account has no email address: an administrator can renew it',
        )
      }
      await committer.commit(joinWrites(renewalMails(user, clock.now()), answered({})))
      outbox.wake()
      return {}
    },

    renewAccount: ({ user_id, token }) =>
      queue.run(`validity ${user_id}`, async () => {
        const [row] = await sql<{ expires_ts: number; send_mail: boolean }[]>`
          select expires_ts, send_mail from account_validity where user_id = ${user_id}`
        if (!enabled || !row || !isToken(token, links.of(renewalMeaning(user_id, row.expires_ts)))) {
          throw new MatrixError('M_FORBIDDEN', 'This link is not good any more, or was used already')
        }
        const expires_ts = clock.now() + period
        await committer.commit(joinWrites(validUntil(user_id, expires_ts, row.send_mail), answered({ expires_ts })))
        return { expires_ts }
      }),

    setAccountValidity: ({ user_id, expires_ts = clock.now() + period, send_mail }) =>
      queue.run(`validity ${user_id}`, async () => {
        const [user] = await sql`select from users where user_id = ${user_id} and not deactivated`
        if (!user) throw new MatrixError('M_NOT_FOUND', 'There is no such account')
        await committer.commit(joinWrites(validUntil(user_id, expires_ts, send_mail), answered({ expires_ts })))
        return { expires_ts }
      }),
  }
}
