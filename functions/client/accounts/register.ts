/** Making accounts. https://spec.matrix.org/v1.19/client-server-api/#account-registration-and-management */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import { isWellFormedToken, tokenHash } from '../../../shared/auth/tokens.ts'
import { newUserId } from '../../../shared/auth/username.ts'
import { DeviceId, type UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { accountExists } from '../../../shared/storage/accounts.ts'
import { isValidToken, registrationToken } from '../../../shared/storage/registration-tokens.ts'
import { accessTokenByHash } from '../../../shared/storage/tokens.ts'
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
    /** Of the guest whose account becomes a full one. */
    guest_access_token: v.nullish(v.string()),
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
        // Of what else a guest sends nothing counts.
        session: { refreshable: false, ...deviceName, ...origin },
      })
      return session ? sessionReply(session, config) : { user_id }
    }

    checkOpen(deps)
    const guest =
      body.guest_access_token == null ? undefined : await guestOf(deps, body.guest_access_token, body.username)
    const user_id = guest ?? newUserId(body.username ?? randomLocalpart(), config.server_name)
    if (body.username != null && guest === undefined) await checkAvailable(deps, user_id)
    if (body.password != null) checkNewPassword(body.password, config)
    const { requires_token } = config.registration
    const flows = [[requires_token ? 'm.login.registration_token' : 'm.login.dummy']]
    const session = await requireInteractiveAuth(deps, { operation: 'register', flows, auth: body.auth })
    if (body.password == null) throw new MatrixError('M_MISSING_PARAM', 'Key password is missing')
    const registered = await main.register({
      user_id,
      password: body.password,
      kind: 'user',
      admin: false,
      ...(guest === undefined ? {} : { upgrades_guest: true }),
      ...(requires_token && session !== undefined ? { token_session: session } : {}),
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

/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity */
export const getRegistrationTokenValidity = route({
  method: 'GET',
  path: '/_matrix/client/v1/register/m.login.registration_token/validity',
  spec: 'client-server-api/#get_matrixclientv1registermloginregistration_tokenvalidity',
  auth: 'none',
  // Who guesses is held up.
  limit: 'registration',
  query: v.object({ token: v.string() }),
  async handle({ query }, deps) {
    checkOpen(deps)
    await deps.replication.fresh?.()
    const now = deps.clock.now()
    return { valid: isValidToken(await registrationToken(deps.sql, query.token, now), now) }
  },
})

function checkOpen({ config }: ClientDeps): void {
  if (!config.registration.enabled) throw new MatrixError('M_FORBIDDEN', 'Registration is not open on this server')
}

/** The guest who wants to have the account as a full one.
 *  https://spec.matrix.org/v1.19/client-server-api/#guest-access */
async function guestOf(
  { sql, config, clock }: ClientDeps,
  token: string,
  username: string | null | undefined,
): Promise<UserId> {
  const row = isWellFormedToken(token, 'gat') ? await accessTokenByHash(sql, tokenHash(token)) : undefined
  const expired = row?.expires_ts != null && row.expires_ts <= clock.now()
  if (row?.kind !== 'guest' || row.deactivated || row.locked || expired) {
    throw new MatrixError('M_FORBIDDEN', 'guest_access_token is no token of a guest')
  }
  if (username == null || newUserId(username, config.server_name) !== row.user_id) {
    throw new MatrixError('M_FORBIDDEN', 'username must be that of the guest whose token this is')
  }
  return row.user_id
}

async function checkAvailable({ sql }: ClientDeps, user_id: ReturnType<typeof newUserId>): Promise<void> {
  if (await accountExists(sql, user_id)) throw new MatrixError('M_USER_IN_USE', 'This user id is taken')
}

function randomLocalpart(): string {
  return randomBytes(10).toString('hex')
}
