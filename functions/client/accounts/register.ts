/** Making accounts. https://spec.matrix.org/v1.19/client-server-api/#account-registration-and-management */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import { newUserId } from '../../../shared/auth/username.ts'
import { DeviceId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { accountExists } from '../../../shared/storage/accounts.ts'
import { type ClientDeps, route } from '../deps.ts'
import { Auth, requireInteractiveAuth } from './interactive-auth.ts'
import { checkNewPassword } from './new-password.ts'
import { sessionReply } from './session-reply.ts'

export const postRegister = route({
  method: 'POST',
  path: '/_matrix/client/v3/register',
  spec: 'client-server-api/#post_matrixclientv3register',
  auth: 'none',
  limit: 'registration',
  query: v.object({ kind: v.optional(v.picklist(['user', 'guest']), 'user') }),
  emptyBody: true,
  body: v.object({
    auth: Auth,
    username: v.nullish(v.string()),
    password: v.nullish(v.string()),
    device_id: v.nullish(DeviceId),
    initial_device_display_name: v.nullish(v.string()),
    inhibit_login: v.nullish(v.boolean()),
    refresh_token: v.nullish(v.boolean()),
  }),
  async handle({ query, body, request }, deps) {
    const { config, main } = deps
    const origin = { ip: request.ip, ...(request.userAgent === undefined ? {} : { agent: request.userAgent }) }
    const named = body.initial_device_display_name
    const deviceName = named == null ? {} : { initial_device_display_name: named }
    if (query.kind === 'guest') {
      if (!config.registration.guests) {
        throw new MatrixError('M_GUEST_ACCESS_FORBIDDEN', 'Guests may not use this server')
      }
      const { user_id, session } = await main.register({
        user_id: newUserId(randomLocalpart(), config.server_name),
        kind: 'guest',
        admin: false,
        session: { refreshable: body.refresh_token === true, ...deviceName, ...origin },
      })
      return session ? sessionReply(session, config) : { user_id }
    }

    if (!config.registration.enabled) throw new MatrixError('M_FORBIDDEN', 'Registration is not open on this server')
    const user_id = newUserId(body.username ?? randomLocalpart(), config.server_name)
    if (body.username != null) await checkAvailable(deps, user_id)
    if (body.password != null) checkNewPassword(body.password, config)
    await requireInteractiveAuth(deps, { operation: 'register', flows: [['m.login.dummy']], auth: body.auth })
    if (body.password == null) throw new MatrixError('M_MISSING_PARAM', 'Key password is missing')
    const registered = await main.register({
      user_id,
      password: body.password,
      kind: 'user',
      admin: false,
      ...(body.inhibit_login
        ? {}
        : {
            session: {
              ...(body.device_id == null ? {} : { device_id: body.device_id }),
              refreshable: body.refresh_token === true,
              ...deviceName,
              ...origin,
            },
          }),
    })
    return registered.session
      ? sessionReply(registered.session, config)
      : { user_id: registered.user_id, home_server: config.server_name }
  },
})

export const getRegisterAvailable = route({
  method: 'GET',
  path: '/_matrix/client/v3/register/available',
  spec: 'client-server-api/#get_matrixclientv3registeravailable',
  auth: 'none',
  limit: 'read',
  query: v.object({ username: v.string() }),
  async handle({ query }, deps) {
    await checkAvailable(deps, newUserId(query.username, deps.config.server_name))
    return { available: true }
  },
})

async function checkAvailable({ sql }: ClientDeps, user_id: ReturnType<typeof newUserId>): Promise<void> {
  if (await accountExists(sql, user_id)) throw new MatrixError('M_USER_IN_USE', 'This user id is taken')
}

function randomLocalpart(): string {
  return randomBytes(10).toString('hex')
}
