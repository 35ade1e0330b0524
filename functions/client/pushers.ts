/** Where a user's clients ask to be told of notifications. https://spec.matrix.org/v1.19/client-server-api/#http-api-5 */
import * as v from 'valibot'
import { Content } from '../../shared/commands/rooms.ts'
import { RawJson } from '../../shared/http/route.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import { pushersOf } from '../../shared/storage/pushers.ts'
import { route } from './deps.ts'

const spec = 'client-server-api/#post_matrixclientv3pushersset'
const gatewayPath = '/_matrix/push/v1/notify'
const pushkeyBytesMax = 512

const name = v.pipe(v.string(), v.maxLength(1000))
const named = {
  app_id: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
  pushkey: v.pipe(
    v.string(),
    v.minLength(1),
    v.check((text) => Buffer.byteLength(text) <= pushkeyBytesMax, `at most ${pushkeyBytesMax} bytes`),
  ),
}
const Pusher = v.object({
  ...named,
  kind: v.literal('http'),
  app_display_name: name,
  device_display_name: name,
  profile_tag: v.nullish(name),
  lang: v.pipe(v.string(), v.maxLength(100)),
  data: Content,
  append: v.nullish(v.boolean(), false),
})

export const getPushers = route({
  method: 'GET',
  path: '/_matrix/client/v3/pushers',
  spec: 'client-server-api/#get_matrixclientv3pushers',
  auth: 'user',
  async handle({ user: { user_id } }, { sql }) {
    const pushers = (await pushersOf(sql, user_id)).map(({ data, profile_tag, ...pusher }) => {
      const head = JSON.stringify(profile_tag === null ? pusher : { ...pusher, profile_tag })
      return `${head.slice(0, -1)},"data":${data}}`
    })
    return new RawJson(`{"pushers":[${pushers.join(',')}]}`)
  },
})

export const postPusher = route({
  method: 'POST',
  path: '/_matrix/client/v3/pushers/set',
  spec,
  auth: 'user',
  limit: 'account',
  body: v.variant('kind', [v.object({ ...named, kind: v.null() }), Pusher]),
  async handle({ body, user: { user_id, device_id } }, { main }) {
    if (body.kind === null) return main.deletePusher({ user_id, app_id: body.app_id, pushkey: body.pushkey })
    const { profile_tag, append, ...pusher } = body
    checkGateway(pusher.data.url)
    return main.setPusher({
      ...pusher,
      user_id,
      device_id,
      append,
      ...(typeof profile_tag === 'string' ? { profile_tag } : {}),
    })
  },
})

function checkGateway(url: unknown): void {
  if (typeof url !== 'string') throw new MatrixError('M_MISSING_PARAM', 'data.url must be given where kind is http')
  const parsed = URL.parse(url)
  if (parsed?.protocol !== 'https:' || parsed.pathname !== gatewayPath) {
    throw new MatrixError('M_INVALID_PARAM', `data.url must be an https:// URL with the path ${gatewayPath}`)
  }
}

export const pusherRoutes = [getPushers, postPusher] as const
