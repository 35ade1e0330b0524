/** Making accounts. https://spec.matrix.org/v1.19/client-server-api/#account-registration-and-management */
import { randomBytes } from 'node:crypto'
import * as v from 'valibot'
import { newUserId } from '../../../shared/auth/username.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { DeviceId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { Medium } from '../../../shared/matrix/threepid.ts'
import { currentConsent, policiesParam, registerOperation } from '../../../shared/policies.ts'
import { accountExists } from '../../../shared/storage/accounts.ts'
import { type ClientDeps, route } from '../deps.ts'
import { Auth, requireInteractiveAuth } from './interactive-auth.ts'
import { mediaServed, stageOf } from './media-served.ts'
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
    const { flows, consent } = registrationDemand(config)
    const { completed, threepids } = await requireInteractiveAuth(deps, {
      operation: registerOperation(config),
      flows,
      ...(consent === undefined ? {} : { params: { [terms]: policiesParam(config) } }),
      threepid_purpose: 'register',
      auth: body.auth,
    })
    if (body.password == null) throw new MatrixError('M_MISSING_PARAM', 'Key password is missing')
    const registered = await main.register({
      user_id,
      password: body.password,
      kind: 'user',
      admin: false,
      threepids: [...threepids],
      ...(consent !== undefined && completed.includes(terms) ? { consent } : {}),
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

const terms = 'm.login.terms'

/** The ways to an account: with the addresses that have to be shown, and with those that may be. */
export function registrationDemand(config: Config): { flows: string[][]; consent: string | undefined } {
  const { require_threepids: required, msisdn } = config.registration
  const media = mediaServed(config).filter((medium) => medium === 'email' || msisdn)
  const unserved = required.filter((medium) => !media.includes(medium))
  if (unserved.length > 0) {
    throw new MatrixError(
      'M_FORBIDDEN',
      'Registration needs what this server does not send: its administrator must know',
    )
  }
  const sets: Medium[][] = [[], ...media.map((medium) => [medium]), ...(media.length > 1 ? [media] : [])]
  const flows = sets
    .filter((set) => required.every((medium) => set.includes(medium)))
    .map((set) => (set.length === 0 ? ['m.login.dummy'] : set.map(stageOf)))
  const consent = config.policies.at_registration ? currentConsent(config) : undefined
  return { flows: consent === undefined ? flows : flows.map((stages) => [terms, ...stages]), consent }
}

export const getRegisterAvailable = route({
  method: 'GET',
  path: '/_matrix/client/v3/register/available',
  spec: 'client-server-api/#get_matrixclientv3registeravailable',
  auth: 'none',
  limit: 'read',
  query: v.object({ username: v.string() }),
  async handle({ query }, deps) {
    if (!deps.config.registration.enabled) {
      throw new MatrixError('M_FORBIDDEN', 'Registration is not open on this server')
    }
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
