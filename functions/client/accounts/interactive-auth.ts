/** Asks for user-interactive authentication. https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api */
import * as v from 'valibot'
import type { InteractiveAuth } from '../../../shared/commands/accounts.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { ClientDeps } from '../deps.ts'

const text = v.nullish(v.string())
/** The `auth` of a request's body. Further keys, of stages we do not have, are let pass. */
export const Auth = v.nullish(
  v.object({
    type: text,
    session: text,
    identifier: v.nullish(v.object({ type: text, user: text })),
    user: text,
    password: text,
    token: text,
  }),
)

type AuthSent = v.InferOutput<typeof Auth>

export interface AuthDemand {
  /** What the authentication is for, in words that hold its target: a session opens nothing else. */
  readonly operation: string
  readonly user_id?: UserId
  readonly flows: string[][]
  /** Ask each time, however recent the last one. */
  readonly once?: boolean
  readonly auth: AuthSent
}

/** Resolves with the session when a flow is complete; throws the 401 that tells the client how to go on. */
export async function requireInteractiveAuth(
  { main, limiter }: ClientDeps,
  demand: AuthDemand,
): Promise<string | undefined> {
  const { auth, ...rest } = demand
  // A password tried here is a login by another way.
  if (auth?.password != null && demand.user_id !== undefined) await limiter.take('login', demand.user_id)
  const answer = await main.authenticateInteractively({ ...rest, ...(auth ? { auth: withoutNulls(auth) } : {}) })
  if (answer.passed) return answer.session
  const { session, completed, failure } = answer
  throw new MatrixError(failure?.errcode ?? 'M_UNAUTHORIZED', failure?.error ?? 'Authentication is needed', {
    status: 401,
    extra: {
      flows: demand.flows.map((stages) => ({ stages })),
      params: {},
      session,
      completed,
      ...(failure ? {} : { errcode: undefined, error: undefined }),
    },
  })
}

/** Some clients send null for what they do not have. */
function withoutNulls({ type, session, user, password, token, identifier }: NonNullable<AuthSent>): InteractiveAuth {
  return {
    ...(type == null ? {} : { type }),
    ...(session == null ? {} : { session }),
    ...(user == null ? {} : { user }),
    ...(password == null ? {} : { password }),
    ...(token == null ? {} : { token }),
    ...(identifier?.user == null ? {} : { identifier: { user: identifier.user } }),
  }
}

/** The flows for an account that is there. */
export const ownerFlows = [['m.login.password']]
