/** Accounts that administrators suspend or lock. https://spec.matrix.org/v1.19/client-server-api/#account-moderation */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import { serverNameOf, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type AccountStatus, accountStatus } from '../../../shared/storage/accounts.ts'
import { type ClientDeps, route } from '../deps.ts'

const params = v.object({ userId: UserId })

/** Throws where the account is none of this server's, or not for this administrator to look at. */
async function statusOf({ sql, config }: ClientDeps, userId: UserId, by: Requester): Promise<AccountStatus> {
  if (serverNameOf(userId) !== config.server_name) {
    throw new MatrixError('M_INVALID_PARAM', 'The user is of another server')
  }
  const status = await accountStatus(sql, userId)
  if (!status || status.deactivated) throw new MatrixError('M_NOT_FOUND', 'There is no such account')
  if (status.admin && userId !== by.user_id) {
    throw new MatrixError('M_FORBIDDEN', 'Administrators are not for one another to suspend or lock')
  }
  return status
}

function refuseOneself(userId: UserId, by: Requester): void {
  if (userId === by.user_id) throw new MatrixError('M_FORBIDDEN', 'You cannot suspend or lock your own account')
}

const suspendPath = '/_matrix/client/v1/admin/suspend/:userId'
const lockPath = '/_matrix/client/v1/admin/lock/:userId'

export const getSuspended = route({
  method: 'GET',
  path: suspendPath,
  spec: 'client-server-api/#get_matrixclientv1adminsuspenduserid',
  auth: 'admin',
  params,
  handle: async ({ params: { userId }, user }, deps) => ({
    suspended: (await statusOf(deps, userId, user)).suspended,
  }),
})

export const putSuspended = route({
  method: 'PUT',
  path: suspendPath,
  spec: 'client-server-api/#put_matrixclientv1adminsuspenduserid',
  auth: 'admin',
  params,
  body: v.object({ suspended: v.boolean() }),
  async handle({ params: { userId }, body: { suspended }, user }, deps) {
    refuseOneself(userId, user)
    await statusOf(deps, userId, user)
    await deps.main.setAccountStatus({ user_id: userId, suspended })
    return { suspended }
  },
})

export const getLocked = route({
  method: 'GET',
  path: lockPath,
  spec: 'client-server-api/#get_matrixclientv1adminlockuserid',
  auth: 'admin',
  params,
  handle: async ({ params: { userId }, user }, deps) => ({ locked: (await statusOf(deps, userId, user)).locked }),
})

export const putLocked = route({
  method: 'PUT',
  path: lockPath,
  spec: 'client-server-api/#put_matrixclientv1adminlockuserid',
  auth: 'admin',
  params,
  body: v.object({ locked: v.boolean() }),
  async handle({ params: { userId }, body: { locked }, user }, deps) {
    refuseOneself(userId, user)
    await statusOf(deps, userId, user)
    await deps.main.setAccountStatus({ user_id: userId, locked })
    return { locked }
  },
})
