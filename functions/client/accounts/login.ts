/** https://spec.matrix.org/v1.19/client-server-api/#login */
import * as v from 'valibot'
import { isWellFormedToken } from '../../../shared/auth/tokens.ts'
import { DeviceId, type ServerName, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type ClientDeps, route } from '../deps.ts'
import { Identifier, identifiedUser } from './identifier.ts'
import { Auth, ownerFlows, requireInteractiveAuth } from './interactive-auth.ts'
import { sessionReply } from './session-reply.ts'

export const getLogin = route({
  method: 'GET',
  path: '/_matrix/client/v3/login',
  spec: 'client-server-api/#get_matrixclientv3login',
  auth: 'none',
  handle: (_, { config }) => ({
    flows: [
      ...(config.password.enabled ? [{ type: 'm.login.password' }] : []),
      { type: 'm.login.token', get_login_token: true },
    ],
  }),
})

const LoginBody = v.object({
  type: v.string(),
  identifier: v.nullish(Identifier),
  /** Deprecated forms of the identifier. */
  user: v.nullish(v.string()),
  medium: v.nullish(v.string()),
  address: v.nullish(v.string()),
  password: v.nullish(v.string()),
  token: v.nullish(v.string()),
  device_id: v.nullish(DeviceId),
  initial_device_display_name: v.nullish(v.string()),
  refresh_token: v.nullish(v.boolean()),
})
type LoginBody = v.InferOutput<typeof LoginBody>

export const postLogin = route({
  method: 'POST',
  path: '/_matrix/client/v3/login',
  spec: 'client-server-api/#post_matrixclientv3login',
  auth: 'none',
  limit: 'login',
  body: LoginBody,
  async handle({ body, request }, deps) {
    const credentials = await credentialsOf(body, deps)
    const session = await deps.main.login({
      credentials,
      session: {
        refreshable: body.refresh_token === true,
        ...(body.device_id == null ? {} : { device_id: body.device_id }),
        ...(body.initial_device_display_name == null
          ? {}
          : { initial_device_display_name: body.initial_device_display_name }),
        ip: request.ip,
        ...(request.userAgent === undefined ? {} : { agent: request.userAgent }),
      },
    })
    return sessionReply(session, deps.config)
  },
})

type Credentials = Parameters<ClientDeps['main']['login']>[0]['credentials']

/** The login types are those listed here and no others: a stage of interactive authentication, such as m.login.dummy,
 *  opens no session. */
async function credentialsOf(body: LoginBody, deps: ClientDeps): Promise<Credentials> {
  switch (body.type) {
    case 'm.login.password': {
      if (!deps.config.password.enabled) throw new MatrixError('M_FORBIDDEN', 'This server has no login by password')
      if (body.password == null) throw new MatrixError('M_MISSING_PARAM', 'Key password is missing')
      const { identifier, user, medium, address } = body
      const typed = identifier ?? { user, medium, address }
      const user_id = await identifiedUser(typed, deps)
      // By what was typed where it is nobody's: one limit for all such would tell them apart from the others.
      await deps.limiter.take('login', user_id ?? JSON.stringify(typed))
      return {
        type: 'm.login.password',
        user_id: user_id ?? nobody(deps.config.server_name),
        password: body.password,
      }
    }
    case 'm.login.token':
      if (body.token == null) throw new MatrixError('M_MISSING_PARAM', 'Key token is missing')
      if (!isWellFormedToken(body.token, 'glt')) throw new MatrixError('M_FORBIDDEN', 'The login token is not valid')
      return { type: 'm.login.token', token: body.token }
    default:
      throw new MatrixError('M_UNKNOWN', 'This login type is not known', { status: 400 })
  }
}

/** No account has such a name: main answers as for a wrong password, and takes as long. */
function nobody(server: ServerName): UserId {
  return v.parse(UserId, `@?:${server}`)
}

export const postLoginGetToken = route({
  method: 'POST',
  path: '/_matrix/client/v1/login/get_token',
  spec: 'client-server-api/#post_matrixclientv1loginget_token',
  auth: 'user',
  limit: 'account',
  emptyBody: true,
  body: v.object({ auth: Auth }),
  async handle({ body, user: { user_id } }, deps) {
    const operation = 'create a login token'
    await requireInteractiveAuth(deps, { operation, user_id, flows: ownerFlows, once: true, auth: body.auth })
    return deps.main.createLoginToken({ user_id })
  },
})
