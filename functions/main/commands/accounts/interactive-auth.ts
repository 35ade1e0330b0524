/** User-interactive authentication. https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api
 *  A session belongs to one operation of one user and remembers which stages were passed. */
import { randomBytes } from 'node:crypto'
import type { InteractiveAuth } from '../../../../shared/commands/accounts.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { localpartOf, serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { isValidToken, registrationToken } from '../../../../shared/storage/registration-tokens.ts'
import { pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import type { AccountDeps } from './deps.ts'
import { isTokenRefused } from './registration-tokens.ts'

/** Long enough to type a password, short enough that nobody finds the dialog open. */
const sessionLifetimeMs = 30 * 60_000

const registrationTokenStage = 'm.login.registration_token'
const invalidToken = { errcode: 'M_UNAUTHORIZED', error: 'The registration token is not valid' } as const

type Failure = NonNullable<Awaited<ReturnType<MainClient['authenticateInteractively']>>['failure']>

export function interactiveAuthHandlers(deps: AccountDeps): Pick<MainClient, 'authenticateInteractively'> {
  const { sql, committer, clock, passwords } = deps

  async function completedOf(
    session: string,
    operation: string,
    user_id: UserId | undefined,
  ): Promise<Set<string> | undefined> {
    const [row] = await sql<{ operation: string; user_id: string; completed: string }[]>`
      select operation, user_id, completed from uia_sessions
      where session_id = ${session} and created_ts > ${clock.now() - sessionLifetimeMs}`
    if (!row) return undefined
    if (row.operation !== operation || row.user_id !== (user_id ?? '')) {
      throw new MatrixError('M_FORBIDDEN', 'The session was opened for something else')
    }
    return new Set(JSON.parse(row.completed) as string[])
  }

  /** Undefined: passed. */
  async function passStage(
    auth: InteractiveAuth,
    user_id: UserId | undefined,
    offered: ReadonlySet<string>,
  ): Promise<Failure | undefined> {
    if (!auth.type || !offered.has(auth.type)) return { errcode: 'M_UNRECOGNIZED', error: 'This stage is not offered' }
    if (auth.type === 'm.login.dummy') return undefined
    if (auth.type === registrationTokenStage) {
      const now = clock.now()
      const token = auth.token === undefined ? undefined : await registrationToken(sql, auth.token, now)
      return isValidToken(token, now) ? undefined : invalidToken
    }
    if (auth.type !== 'm.login.password' || !user_id) throw new Error(`no way to pass stage ${auth.type}`)
    const named = auth.identifier?.user ?? auth.user
    const [user] = await sql<{ password_hash: string | null }[]>`
      select password_hash from users where user_id = ${user_id} and not deactivated`
    if (named !== undefined && !names(named, user_id)) {
      throw new MatrixError('M_FORBIDDEN', 'The password must be that of the account in question')
    }
    if (auth.password !== undefined && (await passwords.matches(auth.password, user?.password_hash))) return undefined
    return { errcode: 'M_FORBIDDEN', error: 'Wrong password' }
  }

  /** The session has shown the token, and holds one of its uses until the account is made or the session is over. */
  async function holdToken<T extends { readonly session: string; readonly completed: readonly string[] }>(
    of: T & { readonly operation: string; readonly token: string },
  ): Promise<Omit<T, 'operation' | 'token'>> {
    const { operation, token, ...answer } = of
    const { session } = answer
    const now = clock.now()
    const held: Writes = {
      also: (tx) => [
        tx`select hold_registration_token(${pgText(token)}, ${session}, ${now}, ${now + sessionLifetimeMs})`,
        tx`insert into uia_sessions (session_id, operation, completed, created_ts)
          values (${session}, ${operation}, ${JSON.stringify(answer.completed)}, ${now})
          on conflict (session_id) do update set completed = excluded.completed`,
      ],
    }
    await committer.commit(joinWrites(held, answered(answer)))
    return answer
  }

  return {
    async authenticateInteractively({ operation, user_id, flows, once, auth }) {
      const known = auth?.session === undefined ? undefined : await completedOf(auth.session, operation, user_id)
      const completed = known ?? new Set<string>()
      let failure: Failure | undefined
      if (auth?.type !== undefined && !(auth.type === registrationTokenStage && completed.has(auth.type))) {
        failure = await passStage(auth, user_id, new Set(flows.flat()))
        if (!failure) completed.add(auth.type)
      }
      const session = known && auth?.session ? auth.session : newSessionId()
      const passed = !failure && flows.some((stages) => stages.every((stage) => completed.has(stage)))
      const done = [...completed]
      const answer = failure ? { passed, session, completed: done, failure } : { passed, session, completed: done }
      const store = (also: NonNullable<Writes['also']>) => committer.commit(joinWrites({ also }, answered(answer)))
      if (auth?.type === registrationTokenStage && auth.token !== undefined && !failure) {
        // Whoever registers at the same time may have had the last of its uses.
        return holdToken({ ...answer, operation, token: auth.token }).catch((error: unknown) => {
          if (!isTokenRefused(error)) throw error
          return {
            ...answer,
            passed: false,
            completed: done.filter((stage) => stage !== registrationTokenStage),
            failure: invalidToken,
          }
        })
      }
      if (passed && once) {
        if (known) await store((tx) => [tx`delete from uia_sessions where session_id = ${session}`])
      } else if (known ? auth?.type !== undefined && !failure : !passed) {
        // Who passes in one step needs no session.
        const now = clock.now()
        await store((tx) => [
          tx`insert into uia_sessions (session_id, operation, user_id, completed, created_ts)
            values (${session}, ${operation}, ${user_id ?? ''}, ${JSON.stringify(done)}, ${now})
            on conflict (session_id) do update set completed = excluded.completed`,
        ])
      }
      return answer
    },
  }
}

/** A full user id or a localpart, in whatever case it was typed. */
function names(typed: string, user_id: UserId): boolean {
  const text = typed.toLowerCase()
  return text === user_id.toLowerCase() || (text === localpartOf(user_id).toLowerCase() && serverNameOf(user_id) !== '')
}

function newSessionId(): string {
  return randomBytes(18).toString('base64url')
}
