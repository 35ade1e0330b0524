/** The account itself: made, logged into, given another password, ended. */
import { tokenHash, tokenHashBytes } from '../../../../shared/auth/tokens.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import type { UserId } from '../../../../shared/matrix/ids.ts'
import { lockedError, MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { isUniqueViolation } from '../../persist/commit-connection.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import type { AccountDeps } from './deps.ts'
import { isTokenRefused } from './registration-tokens.ts'
import { endDevices, openSession, sessionOpening } from './sessions.ts'

export function accountHandlers(
  deps: AccountDeps,
): Pick<MainClient, 'register' | 'login' | 'changePassword' | 'setAccountStatus' | 'deactivateAccount'> {
  const { sql, committer, clock, passwords } = deps

  /** Resolves when the password is the user's. A deactivated account says so to anyone: its user can tell nothing else. */
  async function checkPassword(user_id: UserId, password: string): Promise<void> {
    const [user] = await sql<{ password_hash: string | null; deactivated: boolean; locked: boolean }[]>`
      select password_hash, deactivated, locked from users where user_id = ${user_id}`
    const matches = await passwords.matches(password, user?.password_hash)
    if (user?.deactivated) throw deactivated()
    if (!matches) throw new MatrixError('M_FORBIDDEN', 'Wrong username or password')
    if (user?.locked) throw lockedError()
  }

  /** Whose token it is; it is good for one login. */
  async function userOfLoginToken(hash: Buffer): Promise<UserId> {
    const [row] = await sql<{ user_id: UserId; expires_ts: number; deactivated: boolean; locked: boolean }[]>`
      select user_id, expires_ts, deactivated, locked from login_tokens join users using (user_id) where token_hash = ${hash}`
    if (!row || row.expires_ts <= clock.now()) throw new MatrixError('M_FORBIDDEN', 'The login token is not valid')
    if (row.deactivated) throw deactivated()
    if (row.locked) throw lockedError()
    return row.user_id
  }

  return {
    async register(request) {
      const { user_id, kind, admin, displayname, session, token_session } = request
      const password_hash = request.password === undefined ? null : await passwords.hash(request.password)
      return deps.queue.run(user_id, async () => {
        const [known] = await sql<{ kind: string; deactivated: boolean }[]>`
          select kind, deactivated from users where user_id = ${user_id}`
        const isOwnGuest = request.upgrades_guest === true && known?.kind === 'guest' && !known.deactivated
        if (known ? !isOwnGuest : request.upgrades_guest) throw inUse()
        const opening = session && (await sessionOpening(deps, user_id, session))
        const response = opening ? { user_id, session: opening.session } : { user_id }
        const account: Writes = {
          // The user directory learns of the account by that; a guest's sessions are now of a user.
          invalidations: [
            { cache: 'profile', key: user_id },
            ...(known ? [{ cache: 'user_tokens' as const, key: user_id }] : []),
          ],
          also: (tx) => [
            ...(token_session === undefined
              ? []
              : [tx`select complete_registration_token(${token_session}, ${clock.now()})`]),
            ...(known
              ? [tx`update users set password_hash = ${password_hash}, kind = ${kind} where user_id = ${user_id}`]
              : [
                  tx`insert into users (user_id, password_hash, created_ts, admin, kind)
                    values (${user_id}, ${password_hash}, ${clock.now()}, ${admin}, ${kind})`,
                  tx`insert into profiles (user_id, display_name)
                    values (${user_id}, ${displayname === undefined ? null : pgText(displayname)})`,
                ]),
          ],
        }
        try {
          await committer.commit(joinWrites(account, opening?.writes ?? {}, answered(response)))
        } catch (error) {
          if (isTokenRefused(error)) {
            throw new MatrixError('M_FORBIDDEN', 'The registration token is not held any more: begin again')
          }
          throw isUniqueViolation(error, 'users_pkey') ? inUse() : error
        }
        return response
      })
    },

    async login({ credentials, session }) {
      switch (credentials.type) {
        case 'm.login.password':
          await checkPassword(credentials.user_id, credentials.password)
          return openSession(deps, credentials.user_id, session)
        case 'm.login.token': {
          const hash = tokenHashBytes(tokenHash(credentials.token))
          return openSession(deps, await userOfLoginToken(hash), session, async () => {
            // Of two logins with one token, the second finds it used.
            await userOfLoginToken(hash)
            return { also: (tx) => [tx`delete from login_tokens where token_hash = ${hash}`] }
          })
        }
      }
    },

    async changePassword({ user_id, new_password, logout_devices, keep_device_id }) {
      const password_hash = await passwords.hash(new_password)
      return deps.queue.run(user_id, async () => {
        await committer.commit(
          joinWrites(
            { also: (tx) => [tx`update users set password_hash = ${password_hash} where user_id = ${user_id}`] },
            logout_devices ? await endDevices(sql, user_id, undefined, keep_device_id) : {},
            answered({}),
          ),
        )
        deps.endedRows.sweep()
        return {}
      })
    },

    async setAccountStatus({ user_id, locked, suspended }) {
      await committer.commit({
        // Sessions are looked up anew, and who waits in a sync is answered.
        invalidations: [{ cache: 'user_tokens', key: user_id }],
        also: (tx) => [
          tx`update users set locked = coalesce(${locked ?? null}::boolean, locked),
              suspended = coalesce(${suspended ?? null}::boolean, suspended)
            where user_id = ${user_id}`,
        ],
      })
      return {}
    },

    async deactivateAccount({ user_id, erase }) {
      await deps.queue.run(user_id, async () =>
        committer.commit(
          joinWrites(
            {
              invalidations: [
                { cache: 'profile', key: user_id },
                { cache: 'push_rules', key: user_id },
              ],
              device_lists: [{ user_id }],
              also: (tx) => [
                tx`update users set password_hash = null, deactivated = true, erased = erased or ${erase}
                  where user_id = ${user_id}`,
                tx`delete from login_tokens where user_id = ${user_id}`,
                tx`delete from uia_sessions where user_id = ${user_id}`,
                tx`delete from openid_tokens where user_id = ${user_id}`,
                tx`delete from profiles where user_id = ${user_id}`,
                tx`delete from push_rules where user_id = ${user_id}`,
                tx`delete from account_data where user_id = ${user_id}`,
                tx`delete from delayed_events where user_id = ${user_id}`,
                tx`delete from thread_subscriptions where user_id = ${user_id}`,
                tx`delete from cross_signing_keys where user_id = ${user_id}`,
                tx`delete from key_signatures where user_id = ${user_id}`,
                tx`delete from key_signatures where signer = ${user_id}`,
                tx`select end_room_keys(${user_id}, null)`,
                tx`update room_key_versions set deleted = true where user_id = ${user_id}`,
                tx`insert into departures (user_id, created_ts) values (${user_id}, ${clock.now()})
                  on conflict (user_id) do nothing`,
              ],
            },
            await endDevices(sql, user_id),
          ),
        ),
      )
      deps.endedRows.sweep()
      // Only now: with its tokens gone the user can't come back into a room that was left.
      await deps.departures.depart(user_id)
      return {}
    },
  }
}

function inUse(): MatrixError {
  return new MatrixError('M_USER_IN_USE', 'This user id is taken')
}

function deactivated(): MatrixError {
  return new MatrixError('M_USER_DEACTIVATED', 'This account is deactivated')
}
