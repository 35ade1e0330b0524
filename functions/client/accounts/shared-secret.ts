/** Registration by whoever knows the shared secret, as administration tools of Synapse use it:
 *  https://element-hq.github.io/synapse/latest/admin_api/register_api.html */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import * as v from 'valibot'
import { newUserId } from '../../../shared/auth/username.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { DeviceId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'
import { sessionReply } from './session-reply.ts'

const path = '/_synapse/admin/v1/register'
const spec = 'https://element-hq.github.io/synapse/latest/admin_api/register_api.html'
const nonceLifetimeMs = 60_000

export const getSharedSecretNonce = route({
  method: 'GET',
  path,
  spec,
  auth: 'none',
  limit: 'registration',
  handle: (_, { config, clock }) => ({ nonce: newNonce(secretOf(config), clock.now()) }),
})

export const postSharedSecretRegister = route({
  method: 'POST',
  path,
  spec,
  auth: 'none',
  limit: 'registration',
  body: v.object({
    nonce: v.string(),
    username: v.string(),
    password: v.string(),
    mac: v.string(),
    admin: v.nullish(v.boolean()),
    displayname: v.nullish(v.string()),
    user_type: v.nullish(v.string()),
    device_id: v.nullish(DeviceId),
  }),
  async handle({ body, request }, { config, main, clock }) {
    const secret = secretOf(config)
    if (!isFreshNonce(body.nonce, secret, clock.now())) {
      throw new MatrixError('M_UNKNOWN', 'The nonce is not known', { status: 400 })
    }
    const { nonce, username, password, mac, user_type } = body
    if (`${username}${password}`.includes('\0')) {
      throw new MatrixError('M_INVALID_PARAM', 'Username and password hold no U+0000')
    }
    const parts = [
      nonce,
      username,
      password,
      body.admin ? 'admin' : 'notadmin',
      ...(user_type == null ? [] : [user_type]),
    ]
    const expected = createHmac('sha1', secret).update(parts.join('\0')).digest('hex')
    if (!equal(mac.toLowerCase(), expected)) throw new MatrixError('M_FORBIDDEN', 'The HMAC is wrong')
    const registered = await main.register({
      user_id: newUserId(username, config.server_name),
      password,
      kind: 'user',
      admin: body.admin === true,
      ...(body.displayname == null ? {} : { displayname: body.displayname }),
      session: {
        ...(body.device_id == null ? {} : { device_id: body.device_id }),
        refreshable: false,
        ip: request.ip,
        ...(request.userAgent === undefined ? {} : { agent: request.userAgent }),
      },
    })
    return registered.session ? sessionReply(registered.session, config) : { user_id: registered.user_id }
  },
})

function secretOf(config: Config): string {
  const secret = config.registration.shared_secret
  if (secret === undefined) {
    throw new MatrixError('M_UNKNOWN', 'Registration by shared secret is not enabled', { status: 400 })
  }
  return secret
}

/** Carries its own time and proof, so any handler can check it. A replay finds the name taken. */
function newNonce(secret: string, now: number): string {
  const body = `${now.toString(36)}.${randomBytes(16).toString('hex')}`
  return `${body}.${nonceProof(secret, body)}`
}

function isFreshNonce(nonce: string, secret: string, now: number): boolean {
  const end = nonce.lastIndexOf('.')
  if (end < 0) return false
  const body = nonce.slice(0, end)
  if (!equal(nonce.slice(end + 1), nonceProof(secret, body))) return false
  const age = now - Number.parseInt(body, 36)
  return age >= 0 && age <= nonceLifetimeMs
}

function nonceProof(secret: string, body: string): string {
  return createHmac('sha256', secret).update(`nonce\0${body}`).digest('hex')
}

function equal(a: string, b: string): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && timingSafeEqual(left, right)
}
