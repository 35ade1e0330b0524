/** Sessions that are open: refresh, logout, whose they are. */
import * as v from 'valibot'
import { isWellFormedToken } from '../../../shared/auth/tokens.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'

/** https://spec.matrix.org/v1.19/client-server-api/#refreshing-access-tokens */
export const postRefresh = route({
  method: 'POST',
  path: '/_matrix/client/v3/refresh',
  spec: 'client-server-api/#post_matrixclientv3refresh',
  auth: 'none',
  limit: 'read',
  body: v.object({ refresh_token: v.string() }),
  handle({ body }, { main }) {
    if (!isWellFormedToken(body.refresh_token, 'grt')) {
      throw new MatrixError('M_UNKNOWN_TOKEN', 'The refresh token is not known', { extra: { soft_logout: false } })
    }
    return main.refreshSession({ refresh_token: body.refresh_token })
  },
})

export const postLogout = route({
  method: 'POST',
  path: '/_matrix/client/v3/logout',
  spec: 'client-server-api/#post_matrixclientv3logout',
  auth: 'guest',
  locked: 'allowed',
  handle: ({ user: { user_id, device_id } }, { main }) => main.deleteDevices({ user_id, device_ids: [device_id] }),
})

export const postLogoutAll = route({
  method: 'POST',
  path: '/_matrix/client/v3/logout/all',
  spec: 'client-server-api/#post_matrixclientv3logoutall',
  auth: 'guest',
  locked: 'allowed',
  handle: ({ user: { user_id } }, { main }) => main.deleteDevices({ user_id }),
})

export const getWhoami = route({
  method: 'GET',
  path: '/_matrix/client/v3/account/whoami',
  spec: 'client-server-api/#get_matrixclientv3accountwhoami',
  auth: 'guest',
  handle: ({ user: { user_id, device_id, guest } }) => ({ user_id, device_id, is_guest: guest }),
})
