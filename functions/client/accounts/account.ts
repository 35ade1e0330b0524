/** The caller's account: another password, or its end. */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { userOfThreepid } from '../../../shared/storage/threepids.ts'
import { type ClientDeps, route } from '../deps.ts'
import { Auth, ownerFlows, requireInteractiveAuth } from './interactive-auth.ts'
import { mediaServed, stageOf } from './media-served.ts'
import { checkNewPassword } from './new-password.ts'

/** With a token, the password is changed; without, it is set by who can read the account's mail. */
export const postPassword = route({
  method: 'POST',
  path: '/_matrix/client/v3/account/password',
  spec: 'client-server-api/#post_matrixclientv3accountpassword',
  auth: 'optional',
  limit: 'account',
  body: v.object({ new_password: v.optional(v.string()), logout_devices: v.nullish(v.boolean()), auth: Auth }),
  async handle({ body, user }, deps) {
    if (user?.guest) throw new MatrixError('M_GUEST_ACCESS_FORBIDDEN', 'Guests have no password')
    const { new_password, auth } = body
    if (new_password !== undefined) checkNewPassword(new_password, deps.config)
    const device = user ? { keep_device_id: user.device_id } : {}
    const user_id = user ? await ownerOf(user, auth, deps) : await forgetfulUser(new_password, auth, deps)
    if (new_password === undefined) throw missingPassword()
    const logout_devices = body.logout_devices ?? true
    return deps.main.changePassword({ user_id, new_password, logout_devices, ...device })
  },
})

type AuthSent = v.InferOutput<typeof Auth>

async function ownerOf({ user_id }: Requester, auth: AuthSent, deps: ClientDeps): Promise<UserId> {
  const operation = 'change the password'
  await requireInteractiveAuth(deps, { operation, user_id, flows: ownerFlows, once: true, auth })
  return user_id
}

async function forgetfulUser(new_password: string | undefined, auth: AuthSent, deps: ClientDeps): Promise<UserId> {
  const flows = mediaServed(deps.config).map((medium) => [stageOf(medium)])
  if (flows.length === 0) throw new MatrixError('M_MISSING_TOKEN', 'An access token is needed')
  // What was shown is used up by the stage: it must not be lost on a request that lacks the rest.
  if (auth?.type != null && new_password === undefined) throw missingPassword()
  const operation = 'set a new password'
  const demand = { operation, flows, threepid_purpose: 'reset', once: true, auth } as const
  const { threepids } = await requireInteractiveAuth(deps, demand)
  const [shown] = threepids
  const user_id = shown && (await userOfThreepid(deps.sql, shown))
  if (!user_id) throw new MatrixError('M_THREEPID_NOT_FOUND', 'No account has this address any more')
  return user_id
}

function missingPassword(): MatrixError {
  return new MatrixError('M_MISSING_PARAM', 'Key new_password is missing')
}

export const postDeactivate = route({
  method: 'POST',
  path: '/_matrix/client/v3/account/deactivate',
  spec: 'client-server-api/#post_matrixclientv3accountdeactivate',
  auth: 'user',
  limit: 'account',
  emptyBody: true,
  body: v.object({ erase: v.nullish(v.boolean()), auth: Auth }),
  async handle({ body, user: { user_id } }, deps) {
    const operation = 'deactivate the account'
    await requireInteractiveAuth(deps, { operation, user_id, flows: ownerFlows, auth: body.auth })
    await deps.main.deactivateAccount({ user_id, erase: body.erase === true })
    // Nothing was ever bound to an identity server here.
    return { id_server_unbind_result: 'success' }
  },
})
