/** Looks for accounts that expire soon and have been told nothing yet, and for those from before accounts expired. */
import type { Clock } from '../../../shared/clock.ts'
import type { Config } from '../../../shared/config/schema.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { expiringUsers, renewalMails } from '../commands/accounts/validity.ts'
import type { Outbox } from '../outbox/outbox.ts'
import { type Committer, joinWrites } from '../persist/writes.ts'

const lookMs = 30 * 60_000
const usersAtOnce = 100
/** Accounts of before get their time spread by a tenth of the period, so that they do not all expire, and are not all told, at once. */
const spread = 0.1

export interface AccountValidityDeps {
  readonly sql: MainSql
  readonly committer: Committer
  readonly clock: Clock
  readonly config: Config
  readonly outbox: Pick<Outbox, 'wake'>
  readonly onError: (error: unknown) => void
}

/** Once: resolves when all are told, or with the signal's reason between two portions. */
async function lookAfterAccounts(deps: Omit<AccountValidityDeps, 'onError'>, signal?: AbortSignal): Promise<void> {
  const { sql, committer, clock, config, outbox } = deps
  const { period, renew_at } = config.account_validity
  for (;;) {
    signal?.throwIfAborted()
    const { count } = await sql`
      insert into account_validity (user_id, expires_ts)
      select user_id, ${clock.now() + period}::bigint - floor(random() * ${Math.floor(period * spread)}::bigint)::bigint
      from users u where kind = 'user' and not admin and not deactivated
        and not exists (select from account_validity v where v.user_id = u.user_id)
      limit ${usersAtOnce} on conflict do nothing`
    if (count < usersAtOnce) break
  }
  // Nobody would send what was written.
  if (renew_at === undefined || config.email.host === undefined) return
  for (;;) {
    signal?.throwIfAborted()
    const now = clock.now()
    const untold = sql`v.expires_ts > ${now} and v.expires_ts <= ${now + renew_at} and v.send_mail
      and v.mailed_for_ts is distinct from v.expires_ts
      and exists (select from user_threepids t where t.user_id = v.user_id and t.medium = 'email')`
    const users = await expiringUsers(sql, untold, usersAtOnce)
    if (users.length === 0) return
    await committer.commit(joinWrites(...users.map((user) => renewalMails(user, now))))
    outbox.wake()
  }
}

/** Looks at the start and every half an hour; the returned function ends that and waits for what is under way. */
export function startLookingAfterAccounts(deps: AccountValidityDeps): () => Promise<void> {
  const { clock, onError } = deps
  const stopped = new AbortController()
  let cancel = () => {}
  let running: Promise<void> = Promise.resolve()
  const run = () => {
    running = lookAfterAccounts(deps, stopped.signal)
      .catch((error: unknown) => {
        if (!stopped.signal.aborted) onError(error)
      })
      .then(() => {
        if (!stopped.signal.aborted) cancel = clock.after(lookMs, run)
      })
  }
  run()
  return async () => {
    stopped.abort()
    cancel()
    await running
  }
}
