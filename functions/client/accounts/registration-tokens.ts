/** Registration tokens, as administration tools of Synapse manage them:
 *  https://element-hq.github.io/synapse/latest/usage/administration/admin_api/registration_tokens.html */
import { randomInt } from 'node:crypto'
import * as v from 'valibot'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import {
  type RegistrationToken,
  registrationToken,
  registrationTokens,
} from '../../../shared/storage/registration-tokens.ts'
import { type ClientDeps, route } from '../deps.ts'

const path = '/_synapse/admin/v1/registration_tokens'
const spec = 'https://element-hq.github.io/synapse/latest/usage/administration/admin_api/registration_tokens.html'

/** https://spec.matrix.org/v1.19/appendices/#opaque-identifiers */
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-'
const charactersMax = 64
const Token = v.pipe(v.string(), v.regex(/^[A-Za-z0-9._~-]{1,64}$/))
const params = v.object({ token: v.string() })
const bound = v.nullish(v.pipe(v.number(), v.safeInteger(), v.minValue(0)))

export const getRegistrationTokens = route({
  method: 'GET',
  path,
  spec,
  auth: 'admin',
  query: v.object({ valid: v.optional(v.picklist(['true', 'false'])) }),
  async handle({ query: { valid } }, { sql, clock }) {
    const found = await registrationTokens(sql, clock.now(), valid === undefined ? undefined : valid === 'true')
    return { registration_tokens: found.map(tokenJson) }
  },
})

export const postNewRegistrationToken = route({
  method: 'POST',
  path: `${path}/new`,
  spec,
  auth: 'admin',
  emptyBody: true,
  body: v.object({
    token: v.nullish(Token),
    uses_allowed: bound,
    expiry_time: bound,
    length: v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(charactersMax))),
  }),
  async handle({ body }, deps) {
    checkExpiry(body.expiry_time, deps)
    const token = body.token ?? randomToken(body.length ?? 16)
    await deps.main.createRegistrationToken({ token, uses_allowed: body.uses_allowed, expiry_ts: body.expiry_time })
    return tokenJson(await known(deps, token))
  },
})

export const getRegistrationToken = route({
  method: 'GET',
  path: `${path}/:token`,
  spec,
  auth: 'admin',
  params,
  handle: async ({ params: { token } }, deps) => tokenJson(await known(deps, token)),
})

export const putRegistrationToken = route({
  method: 'PUT',
  path: `${path}/:token`,
  spec,
  auth: 'admin',
  params,
  body: v.object({ uses_allowed: bound, expiry_time: bound }),
  async handle({ params: { token }, body }, deps) {
    checkExpiry(body.expiry_time, deps)
    await deps.main.updateRegistrationToken({ token, uses_allowed: body.uses_allowed, expiry_ts: body.expiry_time })
    return tokenJson(await known(deps, token))
  },
})

export const deleteRegistrationToken = route({
  method: 'DELETE',
  path: `${path}/:token`,
  spec,
  auth: 'admin',
  params,
  handle: ({ params: { token } }, { main }) => main.deleteRegistrationToken({ token }),
})

async function known({ sql, clock }: ClientDeps, token: string): Promise<RegistrationToken> {
  const found = await registrationToken(sql, token, clock.now())
  if (!found) throw new MatrixError('M_NOT_FOUND', 'There is no such registration token')
  return found
}

function tokenJson({ token, uses_allowed, pending, completed, expiry_ts }: RegistrationToken): object {
  return { token, uses_allowed, pending, completed, expiry_time: expiry_ts }
}

function checkExpiry(expiry: number | null | undefined, { clock }: ClientDeps): void {
  if (expiry != null && expiry <= clock.now()) {
    throw new MatrixError('M_INVALID_PARAM', 'expiry_time must not be in the past')
  }
}

function randomToken(length: number): string {
  return Array.from({ length }, () => alphabet[randomInt(alphabet.length)]).join('')
}
