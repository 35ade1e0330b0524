/** The keys in a backup. https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups */
import * as v from 'valibot'
import { KeyBackupData, SessionId } from '../../../shared/commands/room-keys.ts'
import { largeBodyBytesMax } from '../../../shared/http/body.ts'
import { RawJson } from '../../../shared/http/route.ts'
import { RoomId, type UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { roomKey, roomKeys, roomKeyVersion, type StoredRoomKey } from '../../../shared/storage/room-keys.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { route } from '../deps.ts'
import { unknownVersion, versionNumber } from './version.ts'

const query = v.object({ version: v.string() })
const room = v.object({ roomId: RoomId })
const session = v.object({ roomId: RoomId, sessionId: SessionId })
const Sessions = v.object({ sessions: v.record(SessionId, KeyBackupData) })
type Sessions = v.InferOutput<typeof Sessions>

export const putAllKeys = route({
  method: 'PUT',
  path: '/_matrix/client/v3/room_keys/keys',
  spec: 'client-server-api/#put_matrixclientv3room_keyskeys',
  auth: 'user',
  sticky: 'user',
  query,
  body: v.object({ rooms: v.record(RoomId, Sessions) }),
  bodyBytesMax: largeBodyBytesMax,
  handle: ({ query, body, user: { user_id } }, { main }) =>
    main.putRoomKeys({
      user_id,
      version: versionNumber(query.version),
      keys: Object.entries(body.rooms).flatMap(([room_id, { sessions }]) => keysOf(room_id as RoomId, sessions)),
    }),
})

export const putKeysOfRoom = route({
  method: 'PUT',
  path: '/_matrix/client/v3/room_keys/keys/:roomId',
  spec: 'client-server-api/#put_matrixclientv3room_keyskeysroomid',
  auth: 'user',
  sticky: 'user',
  params: room,
  query,
  body: Sessions,
  bodyBytesMax: largeBodyBytesMax,
  handle: ({ params: { roomId }, query, body, user: { user_id } }, { main }) =>
    main.putRoomKeys({ user_id, version: versionNumber(query.version), keys: keysOf(roomId, body.sessions) }),
})

export const putKey = route({
  method: 'PUT',
  path: '/_matrix/client/v3/room_keys/keys/:roomId/:sessionId',
  spec: 'client-server-api/#put_matrixclientv3room_keyskeysroomidsessionid',
  auth: 'user',
  sticky: 'user',
  params: session,
  query,
  body: KeyBackupData,
  handle: ({ params: { roomId, sessionId }, query, body, user: { user_id } }, { main }) =>
    main.putRoomKeys({
      user_id,
      version: versionNumber(query.version),
      keys: [{ room_id: roomId, session_id: sessionId, ...body }],
    }),
})

function keysOf(room_id: RoomId, sessions: Sessions['sessions']) {
  return Object.entries(sessions).map(([session_id, key]) => ({ room_id, session_id, ...key }))
}

export const getAllKeys = route({
  method: 'GET',
  path: '/_matrix/client/v3/room_keys/keys',
  spec: 'client-server-api/#get_matrixclientv3room_keyskeys',
  auth: 'user',
  sticky: 'user',
  query,
  async handle({ query, user: { user_id } }, { sql }) {
    const { key_set } = await existing(sql, user_id, query.version)
    return new RawJson(allRooms(roomKeys(sql, key_set)))
  },
})

export const getKeysOfRoom = route({
  method: 'GET',
  path: '/_matrix/client/v3/room_keys/keys/:roomId',
  spec: 'client-server-api/#get_matrixclientv3room_keyskeysroomid',
  auth: 'user',
  sticky: 'user',
  params: room,
  query,
  async handle({ params: { roomId }, query, user: { user_id } }, { sql }) {
    const { key_set } = await existing(sql, user_id, query.version)
    return new RawJson(oneRoom(roomKeys(sql, key_set, roomId)))
  },
})

export const getKey = route({
  method: 'GET',
  path: '/_matrix/client/v3/room_keys/keys/:roomId/:sessionId',
  spec: 'client-server-api/#get_matrixclientv3room_keyskeysroomidsessionid',
  auth: 'user',
  sticky: 'user',
  params: session,
  query,
  async handle({ params: { roomId, sessionId }, query, user: { user_id } }, { sql }) {
    const { key_set } = await existing(sql, user_id, query.version)
    const found = await roomKey(sql, key_set, { room_id: roomId, session_id: sessionId })
    if (!found) throw new MatrixError('M_NOT_FOUND', 'The backup has no key of this session')
    return new RawJson(keyJson(found))
  },
})

export const deleteAllKeys = route({
  method: 'DELETE',
  path: '/_matrix/client/v3/room_keys/keys',
  spec: 'client-server-api/#delete_matrixclientv3room_keyskeys',
  auth: 'user',
  sticky: 'user',
  query,
  handle: ({ query, user: { user_id } }, { main }) =>
    main.deleteRoomKeys({ user_id, version: versionNumber(query.version) }),
})

export const deleteKeysOfRoom = route({
  method: 'DELETE',
  path: '/_matrix/client/v3/room_keys/keys/:roomId',
  spec: 'client-server-api/#delete_matrixclientv3room_keyskeysroomid',
  auth: 'user',
  sticky: 'user',
  params: room,
  query,
  handle: ({ params: { roomId }, query, user: { user_id } }, { main }) =>
    main.deleteRoomKeys({ user_id, version: versionNumber(query.version), room_id: roomId }),
})

export const deleteKey = route({
  method: 'DELETE',
  path: '/_matrix/client/v3/room_keys/keys/:roomId/:sessionId',
  spec: 'client-server-api/#delete_matrixclientv3room_keyskeysroomidsessionid',
  auth: 'user',
  sticky: 'user',
  params: session,
  query,
  handle: ({ params: { roomId, sessionId }, query, user: { user_id } }, { main }) =>
    main.deleteRoomKeys({
      user_id,
      version: versionNumber(query.version),
      room_id: roomId,
      session_id: sessionId,
    }),
})

async function existing(sql: ReadSql, user_id: UserId, version: string) {
  const found = await roomKeyVersion(sql, user_id, versionNumber(version))
  if (!found) throw unknownVersion()
  return found
}

function keyJson({ first_message_index, forwarded_count, is_verified, session_data }: StoredRoomKey): string {
  const rest = JSON.stringify({ first_message_index, forwarded_count, is_verified })
  return `${rest.slice(0, -1)},"session_data":${session_data}}`
}

/** Keys come by room. */
async function* allRooms(pages: AsyncIterable<StoredRoomKey[]>): AsyncIterable<string> {
  let room: RoomId | undefined
  yield '{"rooms":{'
  for await (const keys of pages) {
    let piece = ''
    for (const key of keys) {
      const session = `${JSON.stringify(key.session_id)}:${keyJson(key)}`
      if (key.room_id === room) piece += `,${session}`
      else piece += `${room === undefined ? '' : '}},'}${JSON.stringify(key.room_id)}:{"sessions":{${session}`
      room = key.room_id
    }
    yield piece
  }
  yield room === undefined ? '}}' : '}}}}'
}

async function* oneRoom(pages: AsyncIterable<StoredRoomKey[]>): AsyncIterable<string> {
  let before = ''
  yield '{"sessions":{'
  for await (const keys of pages) {
    yield before + keys.map((key) => `${JSON.stringify(key.session_id)}:${keyJson(key)}`).join(',')
    before = ','
  }
  yield '}}'
}
