/** The caller's account: another password, or its end. */
import * as v from 'valibot'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'
import { Auth, ownerFlows, requireInteractiveAuth } from './interactive-auth.ts'
import { checkNewPassword } from './new-password.ts'

export const postPassword = route({
  method: 'POST',
  path: '/_matrix/client/v3/account/password',
  spec: 'client-server-api/#post_matrixclientv3accountpassword',
  auth: 'user',
  limit: 'account',
  body: v.object({ new_password: v.optional(v.string()), logout_devices: v.nullish(v.boolean()), auth: Auth }),
  async handle({ body, user: { user_id, device_id } }, deps) {
    const { new_password } = body
    if (new_password !== undefined) checkNewPassword(new_password, deps.config)
    const operation = 'change the password'
    await requireInteractiveAuth(deps, { operation, user_id, flows: ownerFlows, once: true, auth: body.auth })
    if (new_password === undefined) throw new MatrixError('M_MISSING_PARAM', 'Key new_password is missing')
    const logout_devices = body.logout_devices ?? true
    return deps.main.changePassword({ user_id, new_password, logout_devices, keep_device_id: device_id })
  },
})

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
    // No identity server was ever bound to here.
    return { id_server_unbind_result: 'success' }
  },
})
