/** Making rooms and replacing them. https://spec.matrix.org/v1.19/client-server-api/#creation */
import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { route } from '../deps.ts'

const text = v.optional(v.string())

export const createRoom = route({
  method: 'POST',
  path: '/_matrix/client/v3/createRoom',
  spec: 'client-server-api/#post_matrixclientv3createroom',
  auth: 'user',
  suspended: 'refused',
  limit: 'room_creation',
  body: v.object({
    room_version: text,
    visibility: v.optional(v.picklist(['public', 'private'])),
    preset: v.optional(v.picklist(['private_chat', 'public_chat', 'trusted_private_chat'])),
    room_alias_name: text,
    name: text,
    topic: text,
    invite: v.optional(v.array(UserId)),
    is_direct: v.optional(v.boolean()),
    creation_content: v.optional(Content),
    initial_state: v.optional(v.array(v.object({ type: v.string(), state_key: text, content: Content }))),
    power_level_content_override: v.optional(Content),
  }),
  emptyBody: true,
  handle: ({ body, user: { user_id, device_id } }, { main }) => main.createRoom({ ...body, user_id, device_id }),
})

export const upgradeRoom = route({
  method: 'POST',
  path: '/_matrix/client/v3/rooms/:roomId/upgrade',
  spec: 'client-server-api/#post_matrixclientv3roomsroomidupgrade',
  auth: 'user',
  suspended: 'refused',
  limit: 'room_creation',
  sticky: 'room',
  params: v.object({ roomId: RoomId }),
  body: v.object({ new_version: v.string(), additional_creators: v.optional(v.array(UserId)) }),
  handle: ({ params, body, user: { user_id, device_id } }, { main }) =>
    main.upgradeRoom({ ...body, room_id: params.roomId, user_id, device_id }),
})
