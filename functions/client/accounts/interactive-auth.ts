/** Asks for user-interactive authentication. https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api */
import * as v from 'valibot'
import type { InteractiveAuth } from '../../../shared/commands/accounts.ts'
import type { ProvenThreepid, ThreepidPurpose } from '../../../shared/commands/threepids.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { ClientDeps } from '../deps.ts'
import { Identifier, identifiedUser } from './identifier.ts'

const text = v.nullish(v.string())
const Creds = v.object({ sid: v.string(), client_secret: v.string() })
/** The `auth` of a request's body. Further keys, of stages we do not have, are let pass. */
export const Auth = v.nullish(
  v.object({
    type: text,
    session: text,
    identifier: v.nullish(Identifier),
    user: text,
    password: text,
    threepid_creds: v.nullish(Creds),
    /** As clients called it before. */
    threepidCreds: v.nullish(Creds),
    token: text,
  }),
)

type AuthSent = v.InferOutput<typeof Auth>

export interface AuthDemand {
  /** What the authentication is for, in words that hold its target: a session opens nothing else. */
  readonly operation: string
  readonly user_id?: UserId
  readonly flows: string[][]
  /** What clients need for a stage, by its type. */
  readonly params?: Readonly<Record<string, object>>
  /** What email addresses and phone numbers have to have been shown for, where a flow asks for them. */
  readonly threepid_purpose?: ThreepidPurpose
  /** Ask each time, however recent the last one. */
  readonly once?: boolean
  readonly auth: AuthSent
}

export interface Authenticated {
  readonly session: string | undefined
  readonly completed: readonly string[]
  /** What stages have shown to be the user's. */
  readonly threepids: readonly ProvenThreepid[]
}

/** Resolves when a flow is complete; throws the 401 that tells the client how to go on. */
export async function requireInteractiveAuth(deps: ClientDeps, demand: AuthDemand): Promise<Authenticated> {
  const { main, limiter } = deps
  const { auth, params = {}, ...rest } = demand
  // A password tried here is a login by another way.
  if (auth?.password != null && demand.user_id !== undefined) await limiter.take('login', demand.user_id)
  const answer = await main.authenticateInteractively({
    ...rest,
    ...(auth ? { auth: await asCommand(auth, deps) } : {}),
  })
  const { passed, session, completed, threepids, failure } = answer
  if (passed) return { session, completed, threepids }
  throw new MatrixError(failure?.errcode ?? 'M_UNAUTHORIZED', failure?.error ?? 'Authentication is needed', {
    status: 401,
    extra: {
      flows: demand.flows.map((stages) => ({ stages })),
      params,
      session,
      completed,
      ...(failure ? {} : { errcode: undefined, error: undefined }),
    },
  })
}

/** Some clients send null for what they do not have. */
async function asCommand(auth: NonNullable<AuthSent>, deps: ClientDeps): Promise<InteractiveAuth> {
  const { type, session, user, password, token, identifier } = auth
  const creds = auth.threepid_creds ?? auth.threepidCreds
  const named = identifier && (await namedBy(identifier, deps))
  return {
    ...(type == null ? {} : { type }),
    ...(session == null ? {} : { session }),
    ...(user == null ? {} : { user }),
    ...(password == null ? {} : { password }),
    ...(named == null ? {} : { identifier: { user: named } }),
    ...(creds == null ? {} : { threepid_creds: creds }),
    ...(token == null ? {} : { token }),
  }
}

/** The user whom an address or a number belongs to; a name stays as it was typed. */
async function namedBy(identifier: Identifier, deps: ClientDeps): Promise<string | null | undefined> {
  if (identifier.medium == null && identifier.country == null) return identifier.user
  const user_id = await identifiedUser(identifier, deps)
  if (user_id === undefined) throw new MatrixError('M_FORBIDDEN', 'Nobody has this address')
  return user_id
}

/** The flows for an account that is there. */
export const ownerFlows = [['m.login.password']]
