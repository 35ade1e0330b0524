/** Commands on media. https://spec.matrix.org/v1.19/client-server-api/#content-repository
 *  An upload is two of them, around the bytes: a name in the store is reserved, and completed when everything is there. Whoever
 *  sends them chooses the names, so all of them may be sent again. */
import * as v from 'valibot'
import { ServerName, UserId } from '../matrix/ids.ts'
import { ObjectKey } from '../media/store.ts'
import { defineCommand } from './define.ts'
import { ephemeralShard } from './shards.ts'

/** https://spec.matrix.org/v1.19/client-server-api/#matrix-content-mxc-uris */
export const MediaId = v.pipe(v.string(), v.regex(/^[A-Za-z0-9_-]{1,255}$/), v.brand('MediaId'))
export type MediaId = v.InferOutput<typeof MediaId>
/** Hexadecimal. */
export const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))

export const MediaName = v.object({ origin: ServerName, media_id: MediaId })
export type MediaName = v.InferOutput<typeof MediaName>

/** Names of one command or one page. */
export const mediaNamesMax = 1_000

const size = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const names = v.pipe(v.array(MediaName), v.maxLength(mediaNamesMax))
const noReply = v.object({})

/** By whom things are swept: who looks after what is reserved, doomed and too old. */
const sweeper = () => ephemeralShard

export const MediaKind = v.picklist(['upload', 'preview', 'remote'])
export type MediaKind = v.InferOutput<typeof MediaKind>

export const mediaCommands = {
  /** Makes an mxc:// URI that waits for its upload. Throws M_LIMIT_EXCEEDED where the user has too many. */
  createMedia: defineCommand({
    name: 'createMedia',
    request: v.object({ ...MediaName.entries, user_id: UserId }),
    response: v.object({ expires_ts: v.number() }),
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** Before the first byte is written. Throws M_FORBIDDEN where the disk budget has no room for `size`. */
  reserveMediaObject: defineCommand({
    name: 'reserveMediaObject',
    request: v.object({ object_key: ObjectKey, size }),
    response: noReply,
    shard: sweeper,
    repetition: 'harmless',
    deadlineMs: 60_000,
  }),
  /** Their writers are alive. */
  keepMediaObjects: defineCommand({
    name: 'keepMediaObjects',
    request: v.object({ object_keys: v.array(ObjectKey) }),
    response: noReply,
    shard: sweeper,
    repetition: 'harmless',
  }),
  /** Nothing comes of a reservation: what was written is deleted. */
  abandonMediaObject: defineCommand({
    name: 'abandonMediaObject',
    request: v.object({ object_key: ObjectKey }),
    response: noReply,
    shard: sweeper,
    repetition: 'harmless',
  }),
  /** The bytes are in the store. Throws M_CANNOT_OVERWRITE_MEDIA, M_NOT_FOUND (no such URI was made ahead, or it has
   *  expired), M_FORBIDDEN (another user's URI, a blocked hash, the quota), and M_UNAVAILABLE where the reservation is over. */
  completeMedia: defineCommand({
    name: 'completeMedia',
    request: v.object({
      ...MediaName.entries,
      object_key: ObjectKey,
      sha256: Sha256,
      size,
      kind: MediaKind,
      user_id: v.optional(UserId),
      /** The URI was made by createMedia. */
      ahead: v.boolean(),
      content_type: v.string(),
      upload_name: v.optional(v.string()),
    }),
    response: noReply,
    shard: () => undefined,
    repetition: 'harmless',
  }),
  /** Answers with the object that has the thumbnail, which may be another; null where what it was made of is gone. */
  completeThumbnail: defineCommand({
    name: 'completeThumbnail',
    request: v.object({
      object_key: ObjectKey,
      sha256: Sha256,
      size,
      source_key: ObjectKey,
      width: v.number(),
      height: v.number(),
      method: v.picklist(['crop', 'scale']),
      animated: v.boolean(),
      content_type: v.string(),
    }),
    response: v.object({ object_key: v.nullable(ObjectKey) }),
    shard: () => undefined,
    repetition: 'harmless',
  }),
  /** They were fetched lately. */
  noteMediaAccess: defineCommand({
    name: 'noteMediaAccess',
    request: v.object({ media: names }),
    response: noReply,
    shard: () => undefined,
    repetition: 'harmless',
  }),
  /** Rows now, bytes and thumbnails soon after. */
  deleteMedia: defineCommand({
    name: 'deleteMedia',
    request: v.object({ media: names, deleted_by: UserId }),
    response: noReply,
    shard: sweeper,
    repetition: 'harmless',
  }),
  /** Out of sight of everybody, with whatever else has the same bytes. Protected media stay. Answers how many there are. */
  quarantineMedia: defineCommand({
    name: 'quarantineMedia',
    request: v.object({ media: names, quarantined_by: UserId }),
    response: v.object({ quarantined: v.number() }),
    shard: sweeper,
    repetition: 'harmless',
  }),
  unquarantineMedia: defineCommand({
    name: 'unquarantineMedia',
    request: v.object({ media: names }),
    response: noReply,
    shard: sweeper,
    repetition: 'harmless',
  }),
  /** Throws M_NOT_FOUND. */
  protectMedia: defineCommand({
    name: 'protectMedia',
    request: v.object({ ...MediaName.entries, protected: v.boolean() }),
    response: noReply,
    shard: sweeper,
    repetition: 'harmless',
  }),
  /** What has these bytes is refused from now on, or no longer. */
  blockMediaHash: defineCommand({
    name: 'blockMediaHash',
    request: v.object({
      sha256: Sha256,
      blocked: v.boolean(),
      blocked_by: UserId,
      reason: v.optional(v.pipe(v.string(), v.maxLength(1_000))),
    }),
    response: noReply,
    shard: sweeper,
    repetition: 'harmless',
  }),
} as const
