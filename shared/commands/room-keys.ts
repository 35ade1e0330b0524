/** Commands on the backup of room keys. https://spec.matrix.org/v1.19/client-server-api/#server-side-key-backups
 *  Versions are numbers inside and text at the border; a text that is no number names no version. */
import * as v from 'valibot'
import { RoomId, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'
import { Content } from './rooms.ts'

const count = v.pipe(v.number(), v.safeInteger())
/** Of the megolm session that a key belongs to: any text a client chose. */
export const SessionId = v.pipe(v.string(), v.minLength(1), v.maxBytes(255))

/** https://spec.matrix.org/v1.19/client-server-api/#put_matrixclientv3room_keyskeysroomidsessionid */
export const KeyBackupData = v.object({
  first_message_index: count,
  forwarded_count: count,
  is_verified: v.boolean(),
  session_data: Content,
})
export type KeyBackupData = v.InferOutput<typeof KeyBackupData>

const of = { user_id: UserId, version: v.pipe(v.number(), v.safeInteger(), v.minValue(1)) }
const updated = v.object({ etag: v.string(), count: v.number() })

export const roomKeyCommands = {
  createRoomKeyVersion: defineCommand({
    name: 'createRoomKeyVersion',
    request: v.object({ user_id: UserId, algorithm: v.string(), auth_data: Content }),
    response: v.object({ version: v.string() }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Throws M_NOT_FOUND, and M_INVALID_PARAM where the algorithm is another than that of the backup. */
  updateRoomKeyVersion: defineCommand({
    name: 'updateRoomKeyVersion',
    request: v.object({ ...of, algorithm: v.string(), auth_data: Content }),
    response: v.object({}),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** The keys go with it. Throws M_NOT_FOUND. */
  deleteRoomKeyVersion: defineCommand({
    name: 'deleteRoomKeyVersion',
    request: v.object(of),
    response: v.object({}),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Keeps the better one of two keys of a session. Throws M_NOT_FOUND where there is no backup, and
   *  M_WRONG_ROOM_KEYS_VERSION where this one is not the current one. */
  putRoomKeys: defineCommand({
    name: 'putRoomKeys',
    request: v.object({
      ...of,
      keys: v.array(v.object({ room_id: RoomId, session_id: SessionId, ...KeyBackupData.entries })),
    }),
    response: updated,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** All keys; those of a room; that of a session. Throws M_NOT_FOUND where there is no such backup. */
  deleteRoomKeys: defineCommand({
    name: 'deleteRoomKeys',
    request: v.object({ ...of, room_id: v.optional(RoomId), session_id: v.optional(SessionId) }),
    response: updated,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
} as const
