/** What this server is, and where. */
import * as v from 'valibot'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { openIdUser } from '../../shared/storage/openid.ts'
import { version } from '../../shared/version.ts'
import { route } from './deps.ts'

export const getVersion = route({
  method: 'GET',
  path: '/_matrix/federation/v1/version',
  spec: 'server-server-api/#get_matrixfederationv1version',
  auth: 'none',
  handle: () => ({ server: { name: 'Ganglion', version } }),
})

export const getWellKnownServer = route({
  method: 'GET',
  path: '/.well-known/matrix/server',
  spec: 'server-server-api/#getwell-knownmatrixserver',
  auth: 'none',
  handle(_, { config: { federation } }) {
    if (!federation.enabled || federation.delegate_to === undefined) {
      throw new MatrixError('M_NOT_FOUND', 'This server announces no other address')
    }
    return { 'm.server': federation.delegate_to }
  },
})

/** Who made an OpenID token: the proof that a user gives to another service. */
export const getOpenIdUser = route({
  method: 'GET',
  path: '/_matrix/federation/v1/openid/userinfo',
  spec: 'server-server-api/#get_matrixfederationv1openiduserinfo',
  auth: 'none',
  limit: 'federation',
  query: v.object({ access_token: v.pipe(v.string(), v.maxLength(255)) }),
  async handle({ query: { access_token } }, { sql, clock }) {
    const user_id = await openIdUser(sql, { access_token, now: clock.now() })
    if (user_id === undefined) throw new MatrixError('M_UNKNOWN_TOKEN', 'The token is not known, or has expired')
    return { sub: user_id }
  },
})
