/** The account itself: made, logged into, given another password, ended. */
import { tokenHash, tokenHashBytes } from '../../../../shared/auth/tokens.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { joinWrites } from '../../persist/writes.ts'
import type { AccountDeps } from './deps.ts'
import { endDevices, openSession } from './sessions.ts'

export function accountHandlers(
  deps: AccountDeps,
): Pick<MainClient, 'register' | 'login' | 'changePassword' | 'deactivateAccount'> {
  const { sql, committer, clock, passwords } = deps

  /** Resolves when the password is the user's. A deactivated account says so to anyone: its user can tell nothing else. */
  async function checkPassword(user_id: UserId, password: string): Promise<void> {
    const [user] = await sql<{ password_hash: string | null; deactivated: boolean }[]>`
      select password_hash, deactivated from users where user_id = ${user_id}`
    const matches = await passwords.matches(password, user?.password_hash)
    if (user?.deactivated) throw deactivated()
    if (!matches) throw new MatrixError('M_FORBIDDEN', 'Wrong username or password')
  }

  async function userOfLoginToken(token: string): Promise<UserId> {
    const [row] = await sql<{ user_id: UserId; expires_ts: number; deactivated: boolean }[]>`
      with used as (
        delete from login_tokens where token_hash = ${tokenHashBytes(tokenHash(token))} returning user_id, expires_ts
      ) select user_id, expires_ts, deactivated from used join users using (user_id)`
    if (!row || row.expires_ts <= clock.now()) throw new MatrixError('M_FORBIDDEN', 'The login token is not valid')
    if (row.deactivated) throw deactivated()
    return row.user_id
  }

  return {
    async register(request) {
      const { user_id, kind, admin, displayname } = request
      const password_hash = request.password === undefined ? null : await passwords.hash(request.password)
      const created = await sql`
        with made as (
          insert into users (user_id, password_hash, created_ts, admin, kind)
          values (${user_id}, ${password_hash}, ${clock.now()}, ${admin}, ${kind})
          on conflict (user_id) do nothing returning user_id
        ), profile as (
          insert into profiles (user_id, display_name)
          select user_id, ${displayname === undefined ? null : pgText(displayname)}::text from made
        ) select user_id from made`
      if (created.length === 0) throw new MatrixError('M_USER_IN_USE', 'This user id is taken')
      return request.session ? { user_id, session: await openSession(deps, user_id, request.session) } : { user_id }
    },

    async login({ credentials, session }) {
      switch (credentials.type) {
        case 'm.login.password':
          await checkPassword(credentials.user_id, credentials.password)
          return openSession(deps, credentials.user_id, session)
        case 'm.login.token':
          return openSession(deps, await userOfLoginToken(credentials.token), session)
      }
    },

    async changePassword({ user_id, new_password, logout_devices, keep_device_id }) {
      const password_hash = await passwords.hash(new_password)
      return deps.queue.run(user_id, async () => {
        await committer.commit(
          joinWrites(
            { also: (tx) => [tx`update users set password_hash = ${password_hash} where user_id = ${user_id}`] },
            logout_devices ? endDevices(user_id, undefined, keep_device_id) : {},
          ),
        )
        return {}
      })
    },

    async deactivateAccount({ user_id, erase }) {
      await deps.queue.run(user_id, () =>
        committer.commit(
          joinWrites(
            {
              invalidations: [
                { cache: 'profile', key: user_id },
                { cache: 'push_rules', key: user_id },
              ],
              also: (tx) => [
                tx`update users set password_hash = null, deactivated = true, erased = erased or ${erase}
                  where user_id = ${user_id}`,
                tx`delete from login_tokens where user_id = ${user_id}`,
                tx`delete from uia_sessions where user_id = ${user_id}`,
                tx`delete from profiles where user_id = ${user_id}`,
                tx`delete from push_rules where user_id = ${user_id}`,
                tx`delete from account_data where user_id = ${user_id}`,
                tx`insert into departures (user_id, created_ts) values (${user_id}, ${clock.now()})
                  on conflict (user_id) do nothing`,
              ],
            },
            endDevices(user_id),
          ),
        ),
      )
      // Only now: with its tokens gone the user can't come back into a room that was left.
      await deps.departures.depart(user_id)
      return {}
    },
  }
}

function deactivated(): MatrixError {
  return new MatrixError('M_USER_DEACTIVATED', 'This account is deactivated')
}
