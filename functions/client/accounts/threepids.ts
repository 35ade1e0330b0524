/** Email addresses and phone numbers of the caller's account.
 *  https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information */
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import type { ThreepidCreds } from '../../../shared/commands/threepids.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { canonicalAddress, Medium } from '../../../shared/matrix/threepid.ts'
import { threepidsOf } from '../../../shared/storage/threepids.ts'
import { type ClientDeps, route } from '../deps.ts'
import { Auth, ownerFlows, requireInteractiveAuth } from './interactive-auth.ts'

const path = '/_matrix/client/v3/account/3pid'
const creds = { sid: v.string(), client_secret: v.string() }

export const getThreepids = route({
  method: 'GET',
  path,
  spec: 'client-server-api/#get_matrixclientv3account3pid',
  auth: 'user',
  async handle({ user }, { sql }) {
    const threepids = await threepidsOf(sql, user.user_id)
    return {
      threepids: threepids.map(({ medium, address, validated_ts, added_ts }) => ({
        medium,
        address,
        validated_at: validated_ts,
        added_at: added_ts,
      })),
    }
  },
})

/** The old way to add one. It asks for the password as the new one does: whoever found an open session would else have the
 *  account's password sent to an address of their own. */
export const postThreepid = route({
  method: 'POST',
  path,
  spec: 'client-server-api/#post_matrixclientv3account3pid',
  auth: 'user',
  limit: 'account',
  body: v.object({
    three_pid_creds: v.optional(v.object(creds)),
    threePidCreds: v.optional(v.object(creds)),
    auth: Auth,
  }),
  handle({ body, user }, deps) {
    const given = body.three_pid_creds ?? body.threePidCreds
    if (!given) throw new MatrixError('M_MISSING_PARAM', 'Key three_pid_creds is missing')
    return add(given, body.auth, user, deps)
  },
})

export const postThreepidAdd = route({
  method: 'POST',
  path: `${path}/add`,
  spec: 'client-server-api/#post_matrixclientv3account3pidadd',
  auth: 'user',
  limit: 'account',
  body: v.object({ ...creds, auth: Auth }),
  handle: ({ body: { sid, client_secret, auth }, user }, deps) => add({ sid, client_secret }, auth, user, deps),
})

async function add(creds: ThreepidCreds, auth: v.InferOutput<typeof Auth>, { user_id }: Requester, deps: ClientDeps) {
  checkChanges(deps.config)
  const operation = `add the address of session ${creds.sid}`
  await requireInteractiveAuth(deps, { operation, user_id, flows: ownerFlows, auth })
  return deps.main.addThreepid({ user_id, creds })
}

const removal = v.object({ medium: Medium, address: v.string() })
/** Nothing is bound at an identity server by way of this one. */
const unbound = { id_server_unbind_result: 'no-support' } as const

export const postThreepidDelete = route({
  method: 'POST',
  path: `${path}/delete`,
  spec: 'client-server-api/#post_matrixclientv3account3piddelete',
  auth: 'user',
  limit: 'account',
  body: removal,
  async handle({ body: { medium, address }, user: { user_id } }, { main, config }) {
    checkChanges(config)
    await main.deleteThreepid({ user_id, medium, address: canonicalAddress(medium, address) ?? address })
    return unbound
  },
})

export const postThreepidBind = route({
  method: 'POST',
  path: `${path}/bind`,
  spec: 'client-server-api/#post_matrixclientv3account3pidbind',
  auth: 'user',
  limit: 'account',
  body: v.object({ ...creds, id_server: v.string(), id_access_token: v.string() }),
  handle() {
    throw new MatrixError('M_SERVER_NOT_TRUSTED', 'This server trusts no identity server: bind there yourself')
  },
})

export const postThreepidUnbind = route({
  method: 'POST',
  path: `${path}/unbind`,
  spec: 'client-server-api/#post_matrixclientv3account3pidunbind',
  auth: 'user',
  limit: 'account',
  body: removal,
  handle: () => unbound,
})

function checkChanges({ threepids }: Config): void {
  if (!threepids.changes) throw new MatrixError('M_FORBIDDEN', 'Addresses of accounts are not changed here')
}
