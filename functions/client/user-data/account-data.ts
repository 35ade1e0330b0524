/** Account data and tags. https://spec.matrix.org/v1.19/client-server-api/#client-config */
import * as v from 'valibot'
import { Content } from '../../../shared/commands/rooms.ts'
import { RawJson } from '../../../shared/http/route.ts'
import { RoomId, UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { accountDataOf } from '../../../shared/storage/account-data.ts'
import { pushRulesFor } from '../../../shared/storage/push-rules.ts'
import { noAccountData } from '../../../shared/streams/account-data.ts'
import { route } from '../deps.ts'

/** Types that have an API of their own and that clients must not write here. */
const managed = new Set(['m.fully_read', 'm.push_rules'])

/** Of taking an entry away. */
const removal = 'https://github.com/matrix-org/matrix-spec-proposals/pull/3391'

const AccountDataType = v.pipe(v.string(), v.minLength(1), v.maxBytes(255))

function own(userId: UserId, user: { user_id: UserId }): void {
  if (userId !== user.user_id) throw new MatrixError('M_FORBIDDEN', "You can't see or change other users' account data")
}

function checkWritable(type: string): void {
  if (managed.has(type)) {
    throw new MatrixError('M_BAD_JSON', `${type} can't be set as account data`, { status: 405 })
  }
}

export const putAccountData = route({
  method: 'PUT',
  path: '/_matrix/client/v3/user/:userId/account_data/:type',
  spec: 'client-server-api/#put_matrixclientv3useruseridaccount_datatype',
  auth: 'user',
  params: v.object({ userId: UserId, type: AccountDataType }),
  body: Content,
  async handle({ params: { userId, type }, body, user }, { main }) {
    own(userId, user)
    checkWritable(type)
    return main.setAccountData({ user_id: userId, type, content: JSON.stringify(body) })
  },
})

export const getAccountData = route({
  method: 'GET',
  path: '/_matrix/client/v3/user/:userId/account_data/:type',
  spec: 'client-server-api/#get_matrixclientv3useruseridaccount_datatype',
  auth: 'user',
  params: v.object({ userId: UserId, type: AccountDataType }),
  async handle({ params: { userId, type }, user }, { sql }) {
    own(userId, user)
    if (type === 'm.push_rules') return pushRulesFor(sql, userId)
    const content = await accountDataOf(sql, { user_id: userId, type })
    if (content === undefined) throw new MatrixError('M_NOT_FOUND', 'There is no account data of this type')
    return new RawJson(content)
  },
})

export const deleteAccountData = route({
  method: 'DELETE',
  path: '/_matrix/client/unstable/org.matrix.msc3391/user/:userId/account_data/:type',
  spec: removal,
  auth: 'user',
  params: v.object({ userId: UserId, type: AccountDataType }),
  async handle({ params: { userId, type }, user }, { main }) {
    own(userId, user)
    checkWritable(type)
    return main.setAccountData({ user_id: userId, type, content: noAccountData })
  },
})

export const putRoomAccountData = route({
  method: 'PUT',
  path: '/_matrix/client/v3/user/:userId/rooms/:roomId/account_data/:type',
  spec: 'client-server-api/#put_matrixclientv3useruseridroomsroomidaccount_datatype',
  auth: 'user',
  sticky: 'room',
  params: v.object({ userId: UserId, roomId: RoomId, type: AccountDataType }),
  body: Content,
  async handle({ params: { userId, roomId, type }, body, user }, { main }) {
    own(userId, user)
    checkWritable(type)
    return main.setAccountData({ user_id: userId, room_id: roomId, type, content: JSON.stringify(body) })
  },
})

export const getRoomAccountData = route({
  method: 'GET',
  path: '/_matrix/client/v3/user/:userId/rooms/:roomId/account_data/:type',
  spec: 'client-server-api/#get_matrixclientv3useruseridroomsroomidaccount_datatype',
  auth: 'user',
  sticky: 'room',
  params: v.object({ userId: UserId, roomId: RoomId, type: AccountDataType }),
  async handle({ params: { userId, roomId, type }, user }, { sql }) {
    own(userId, user)
    const content = await accountDataOf(sql, { user_id: userId, room_id: roomId, type })
    if (content === undefined) throw new MatrixError('M_NOT_FOUND', 'There is no account data of this type')
    return new RawJson(content)
  },
})

export const deleteRoomAccountData = route({
  method: 'DELETE',
  path: '/_matrix/client/unstable/org.matrix.msc3391/user/:userId/rooms/:roomId/account_data/:type',
  spec: removal,
  auth: 'user',
  sticky: 'room',
  params: v.object({ userId: UserId, roomId: RoomId, type: AccountDataType }),
  async handle({ params: { userId, roomId, type }, user }, { main }) {
    own(userId, user)
    checkWritable(type)
    return main.setAccountData({ user_id: userId, room_id: roomId, type, content: noAccountData })
  },
})

const Tag = v.pipe(v.string(), v.minLength(1), v.maxBytes(255))

export const getTags = route({
  method: 'GET',
  path: '/_matrix/client/v3/user/:userId/rooms/:roomId/tags',
  spec: 'client-server-api/#get_matrixclientv3useruseridroomsroomidtags',
  auth: 'user',
  sticky: 'room',
  params: v.object({ userId: UserId, roomId: RoomId }),
  async handle({ params: { userId, roomId }, user }, { sql }) {
    own(userId, user)
    return new RawJson((await accountDataOf(sql, { user_id: userId, room_id: roomId, type: 'm.tag' })) ?? '{"tags":{}}')
  },
})

export const putTag = route({
  method: 'PUT',
  path: '/_matrix/client/v3/user/:userId/rooms/:roomId/tags/:tag',
  spec: 'client-server-api/#put_matrixclientv3useruseridroomsroomidtagstag',
  auth: 'user',
  sticky: 'room',
  params: v.object({ userId: UserId, roomId: RoomId, tag: Tag }),
  body: Content,
  emptyBody: true,
  async handle({ params: { userId, roomId, tag }, body, user }, { main }) {
    own(userId, user)
    const { order } = body
    if (order !== undefined && !(typeof order === 'number' && order >= 0 && order <= 1)) {
      throw new MatrixError('M_INVALID_PARAM', 'order must be a number from 0 to 1')
    }
    return main.setTag({ user_id: userId, room_id: roomId, tag, content: JSON.stringify(body) })
  },
})

export const deleteTag = route({
  method: 'DELETE',
  path: '/_matrix/client/v3/user/:userId/rooms/:roomId/tags/:tag',
  spec: 'client-server-api/#delete_matrixclientv3useruseridroomsroomidtagstag',
  auth: 'user',
  sticky: 'room',
  params: v.object({ userId: UserId, roomId: RoomId, tag: Tag }),
  async handle({ params: { userId, roomId, tag }, user }, { main }) {
    own(userId, user)
    return main.setTag({ user_id: userId, room_id: roomId, tag })
  },
})
