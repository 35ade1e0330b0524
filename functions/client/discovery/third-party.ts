/** Networks beyond Matrix that bridges lead to. There are no bridges here, so none is known.
 *  https://spec.matrix.org/v1.19/client-server-api/#third-party-networks */
import * as v from 'valibot'
import { RoomAlias, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'

const base = '/_matrix/client/v3/thirdparty'
const params = v.object({ protocol: v.string() })

export const getProtocols = route({
  method: 'GET',
  path: `${base}/protocols`,
  spec: 'client-server-api/#get_matrixclientv3thirdpartyprotocols',
  auth: 'user',
  handle: () => ({}),
})

function unknownProtocol(): never {
  throw new MatrixError('M_NOT_FOUND', 'This server has no bridge to such a network')
}

export const getProtocol = route({
  method: 'GET',
  path: `${base}/protocol/:protocol`,
  spec: 'client-server-api/#get_matrixclientv3thirdpartyprotocolprotocol',
  auth: 'user',
  params,
  handle: unknownProtocol,
})

export const getLocationsOfProtocol = route({
  method: 'GET',
  path: `${base}/location/:protocol`,
  spec: 'client-server-api/#get_matrixclientv3thirdpartylocationprotocol',
  auth: 'user',
  params,
  handle: unknownProtocol,
})

export const getUsersOfProtocol = route({
  method: 'GET',
  path: `${base}/user/:protocol`,
  spec: 'client-server-api/#get_matrixclientv3thirdpartyuserprotocol',
  auth: 'user',
  params,
  handle: unknownProtocol,
})

export const getLocationsOfAlias = route({
  method: 'GET',
  path: `${base}/location`,
  spec: 'client-server-api/#get_matrixclientv3thirdpartylocation',
  auth: 'user',
  query: v.object({ alias: RoomAlias }),
  handle({ query: { alias } }): never {
    throw new MatrixError('M_NOT_FOUND', `No bridge knows the alias ${alias}`)
  },
})

export const getThirdPartyUsers = route({
  method: 'GET',
  path: `${base}/user`,
  spec: 'client-server-api/#get_matrixclientv3thirdpartyuser',
  auth: 'user',
  query: v.object({ userid: UserId }),
  handle({ query: { userid } }): never {
    throw new MatrixError('M_NOT_FOUND', `No bridge knows the user ${userid}`)
  },
})
