/** User-interactive authentication. https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api
 *  A session belongs to one operation of one user and remembers which stages were passed. */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import type { InteractiveAuth } from '../../../../shared/commands/accounts.ts'
import type { MainClient } from '../../../../shared/commands/registry.ts'
import { ProvenThreepid, type ThreepidPurpose } from '../../../../shared/commands/threepids.ts'
import { localpartOf, serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../../shared/matrix/matrix-error.ts'
import { isValidToken, registrationToken } from '../../../../shared/storage/registration-tokens.ts'
import { fromPgText, pgText } from '../../../../shared/storage/sql.ts'
import { answered } from '../../command-call.ts'
import { joinWrites, type Writes } from '../../persist/writes.ts'
import { endSession, provenThreepid } from '../threepids/proven.ts'
import type { AccountDeps } from './deps.ts'
import { isTokenRefused } from './registration-tokens.ts'

/** Long enough to type a password, short enough that nobody finds the dialog open. */
export const uiaSessionLifetimeMs = 30 * 60_000

const registrationTokenStage = 'm.login.registration_token'
const invalidToken = { errcode: 'M_UNAUTHORIZED', error: 'The registration token is not valid' } as const

type Failure = NonNullable<Awaited<ReturnType<MainClient['authenticateInteractively']>>['failure']>

interface Session {
  readonly completed: Set<string>
  readonly threepids: ProvenThreepid[]
}
const Completed = v.array(v.string())
const Threepids = v.array(ProvenThreepid)

/** Of a stage: what it has shown, and what is used up by that. */
interface Passed {
  readonly threepid?: ProvenThreepid
  readonly writes?: Writes
}

interface Circumstances {
  readonly offered: ReadonlySet<string>
  /** The session was there before. */
  readonly began: boolean
  readonly purpose: ThreepidPurpose | undefined
}

export function interactiveAuthHandlers(deps: AccountDeps): Pick<MainClient, 'authenticateInteractively'> {
  const { sql, committer, clock, passwords } = deps

  async function sessionOf(
    session: string,
    operation: string,
    user_id: UserId | undefined,
  ): Promise<Session | undefined> {
    const [row] = await sql<{ operation: string; user_id: string; completed: string; threepids: string }[]>`
      select operation, user_id, completed, threepids from uia_sessions
      where session_id = ${session} and created_ts > ${clock.now() - uiaSessionLifetimeMs}`
    if (!row) return undefined
    if (row.operation !== operation || row.user_id !== (user_id ?? '')) {
      throw new MatrixError('M_FORBIDDEN', 'The session was opened for something else')
    }
    return {
      completed: new Set(v.parse(Completed, JSON.parse(row.completed))),
      threepids: v.parse(Threepids, JSON.parse(fromPgText(row.threepids))),
    }
  }

  async function passStage(
    auth: InteractiveAuth,
    user_id: UserId | undefined,
    { offered, began, purpose }: Circumstances,
  ): Promise<Passed | Failure> {
    const { type } = auth
    if (!type || !offered.has(type)) return { errcode: 'M_UNRECOGNIZED', error: 'This stage is not offered' }
    switch (type) {
      case 'm.login.dummy':
        return {}
      case 'm.login.terms':
        // Nobody agrees to what was not shown.
        return began ? {} : { errcode: 'M_FORBIDDEN', error: 'Agree within the session that names the policies' }
      case 'm.login.email.identity':
      case 'm.login.msisdn': {
        if (!purpose) break
        const medium = type === 'm.login.msisdn' ? 'msisdn' : 'email'
        const { threepid_creds: creds } = auth
        const shown = creds && (await provenThreepid(sql, creds, { purpose, now: clock.now() }))
        // Clients ask again and again until the link was followed.
        if (!creds || shown?.medium !== medium) {
          return { errcode: 'M_UNAUTHORIZED', error: 'The address has not been confirmed' }
        }
        return { threepid: shown, writes: endSession(creds.sid) }
      }
      case registrationTokenStage: {
        const now = clock.now()
        const token = auth.token === undefined ? undefined : await registrationToken(sql, auth.token, now)
        return isValidToken(token, now) ? {} : invalidToken
      }
      case 'm.login.password':
        if (user_id) return passPassword(auth, user_id)
    }
    throw new Error(`no way to pass stage ${type}`)
  }

  async function passPassword(auth: InteractiveAuth, user_id: UserId): Promise<Passed | Failure> {
    const named = auth.identifier?.user ?? auth.user
    const [user] = await sql<{ password_hash: string | null }[]>`
      select password_hash from users where user_id = ${user_id} and not deactivated`
    if (named !== undefined && !names(named, user_id)) {
      throw new MatrixError('M_FORBIDDEN', 'The password must be that of the account in question')
    }
    if (auth.password !== undefined && (await passwords.matches(auth.password, user?.password_hash))) return {}
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
        tx`select hold_registration_token(${pgText(token)}, ${session}, ${now}, ${now + uiaSessionLifetimeMs})`,
        tx`insert into uia_sessions (session_id, operation, completed, created_ts)
          values (${session}, ${operation}, ${JSON.stringify(answer.completed)}, ${now})
          on conflict (session_id) do update set completed = excluded.completed`,
      ],
    }
    await committer.commit(joinWrites(held, answered(answer)))
    return answer
  }

  return {
    async authenticateInteractively({ operation, user_id, flows, once, threepid_purpose, auth }) {
      const known = auth?.session === undefined ? undefined : await sessionOf(auth.session, operation, user_id)
      const completed = known?.completed ?? new Set<string>()
      const threepids = known?.threepids ?? []
      let failure: Failure | undefined
      let further: Writes = {}
      if (auth?.type !== undefined && !(auth.type === registrationTokenStage && completed.has(auth.type))) {
        const offered = new Set(flows.flat())
        const outcome = await passStage(auth, user_id, {
          offered,
          began: known !== undefined,
          purpose: threepid_purpose,
        })
        if ('errcode' in outcome) failure = outcome
        else {
          completed.add(auth.type)
          const { threepid, writes } = outcome
          if (threepid) threepids.push(threepid)
          if (writes) further = writes
        }
      }
      const session = known && auth?.session ? auth.session : newSessionId()
      const passed = !failure && flows.some((stages) => stages.every((stage) => completed.has(stage)))
      const base = { passed, session, completed: [...completed], threepids }
      const answer = failure ? { ...base, failure } : base
      const store = (also: NonNullable<Writes['also']>) =>
        committer.commit(joinWrites({ also }, further, answered(answer)))
      if (auth?.type === registrationTokenStage && auth.token !== undefined && !failure) {
        // Whoever registers at the same time may have had the last of its uses.
        return holdToken({ ...answer, operation, token: auth.token }).catch((error: unknown) => {
          if (!isTokenRefused(error)) throw error
          return {
            ...answer,
            passed: false,
            completed: answer.completed.filter((stage) => stage !== registrationTokenStage),
            failure: invalidToken,
          }
        })
      }
      if (passed && once) {
        if (known) await store((tx) => [tx`delete from uia_sessions where session_id = ${session}`])
        else if (further.also) await store(() => [])
      } else if (known ? auth?.type !== undefined && !failure : !passed || further.also) {
        // Who passes in one step needs no session.
        const now = clock.now()
        await store((tx) => [
          tx`insert into uia_sessions (session_id, operation, user_id, completed, threepids, created_ts)
            values (${session}, ${operation}, ${user_id ?? ''}, ${JSON.stringify(answer.completed)},
              ${pgText(JSON.stringify(threepids))}, ${now})
            on conflict (session_id) do update set completed = excluded.completed, threepids = excluded.threepids`,
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
