/** https://spec.matrix.org/v1.19/client-server-api/#openid */
import * as v from 'valibot'
import { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'

export const requestOpenIdToken = route({
  method: 'POST',
  path: '/_matrix/client/v3/user/:userId/openid/request_token',
  spec: 'client-server-api/#post_matrixclientv3useruseridopenidrequest_token',
  auth: 'user',
  limit: 'account',
  params: v.object({ userId: UserId }),
  body: v.object({}),
  emptyBody: true,
  async handle({ params: { userId }, user: { user_id } }, { main, config }) {
    if (userId !== user_id) throw new MatrixError('M_FORBIDDEN', "You can't prove to be somebody else")
    const { access_token, expires_in_ms } = await main.createOpenIdToken({ user_id })
    return {
      access_token,
      token_type: 'Bearer',
      matrix_server_name: config.server_name,
      expires_in: Math.floor(expires_in_ms / 1000),
    }
  },
})
