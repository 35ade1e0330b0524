/** Commands on pushers. https://spec.matrix.org/v1.19/client-server-api/#http-api-5 */
import * as v from 'valibot'
import { DeviceId, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'
import { Content } from './rooms.ts'

const named = { user_id: UserId, app_id: v.string(), pushkey: v.string() }
const noReply = v.object({})

export const pusherCommands = {
  /** Throws M_RESOURCE_LIMIT_EXCEEDED where the user has as many as may be. */
  setPusher: defineCommand({
    name: 'setPusher',
    request: v.object({
      ...named,
      device_id: DeviceId,
      kind: v.literal('http'),
      app_display_name: v.string(),
      device_display_name: v.string(),
      profile_tag: v.optional(v.string()),
      lang: v.string(),
      data: Content,
      /** Those of other users with the same app and key stay. */
      append: v.boolean(),
    }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  deletePusher: defineCommand({
    name: 'deletePusher',
    request: v.object(named),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
} as const
