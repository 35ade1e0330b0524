/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv3voipturnserver */
import { createHmac } from 'node:crypto'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'

/** With a shared secret, name and password are good for one user and a while: the name says until when and whose, the
 *  password proves that this server made it. https://datatracker.ietf.org/doc/html/draft-uberti-behave-turn-rest-00 */
export const getTurnServer = route({
  method: 'GET',
  path: '/_matrix/client/v3/voip/turnServer',
  spec: 'client-server-api/#get_matrixclientv3voipturnserver',
  auth: 'guest',
  limit: 'read',
  handle({ user }, { config, clock }) {
    const { uris, shared_secret, username, password, user_lifetime, allow_guests } = config.turn
    if (user.guest && !allow_guests) {
      throw new MatrixError('M_GUEST_ACCESS_FORBIDDEN', 'Guests get no credentials for calls')
    }
    const ttl = Math.floor(user_lifetime / 1000)
    if (uris.length === 0) return {}
    if (shared_secret !== undefined) {
      const name = `${Math.floor(clock.now() / 1000) + ttl}:${user.user_id}`
      return { username: name, password: createHmac('sha1', shared_secret).update(name).digest('base64'), ttl, uris }
    }
    // Without credentials a TURN server is of no use.
    return username === undefined || password === undefined ? {} : { username, password, ttl, uris }
  },
})
