/** Commands on the keys of devices and users. https://spec.matrix.org/v1.19/client-server-api/#end-to-end-encryption
 *  Keys are JSON text, as they are given out. */
import * as v from 'valibot'
import { DeviceId, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'
import { shardCount } from './shards.ts'

const noReply = v.object({})

/** One key that can be claimed; `key` is JSON text of a string or an object. */
export const ClaimableKey = v.object({ algorithm: v.string(), key_id: v.string(), key: v.string() })
export type ClaimableKey = v.InferOutput<typeof ClaimableKey>

export const KeyClaim = v.object({ user_id: UserId, device_id: DeviceId, algorithm: v.string() })
export type KeyClaim = v.InferOutput<typeof KeyClaim>

/** A cross-signing key: its public half in unpadded base64, and JSON text of the whole. */
export const CrossSigningKeyWrite = v.object({ public_key: v.string(), key: v.string() })
export type CrossSigningKeyWrite = v.InferOutput<typeof CrossSigningKeyWrite>

/** JSON text of a signed object, under the key's id: a device's id or a public key. */
export const SignedKey = v.object({ user_id: UserId, key_id: v.string(), object: v.string() })
export type SignedKey = v.InferOutput<typeof SignedKey>

export const keyCommands = {
  /** Throws M_INVALID_PARAM where a one-time key of this name is there with another content, M_TOO_LARGE where there are
   *  too many, and M_UNKNOWN_TOKEN where the device is no more. */
  uploadKeys: defineCommand({
    name: 'uploadKeys',
    request: v.object({
      user_id: UserId,
      device_id: DeviceId,
      device_keys: v.optional(v.string()),
      one_time_keys: v.array(ClaimableKey),
      /** At most one an algorithm; it takes the former one's place. */
      fallback_keys: v.array(ClaimableKey),
    }),
    /** One-time keys that the device has now, by algorithm. */
    response: v.object({ one_time_key_counts: v.record(v.string(), v.number()) }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Gives out a key for each claim that can be met, each one-time key once and never again. All users are of one shard. */
  claimKeys: defineCommand({
    name: 'claimKeys',
    request: v.object({
      shard: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(shardCount - 1)),
      claims: v.array(KeyClaim),
    }),
    response: v.object({
      keys: v.array(v.object({ user_id: UserId, device_id: DeviceId, ...ClaimableKey.entries })),
    }),
    shard: (request) => request.shard,
    repetition: 'recorded',
  }),
  /** Throws M_MISSING_PARAM without a master key, M_INVALID_SIGNATURE, and M_FORBIDDEN where keys would be replaced and
   *  the user has not proved to be who they are, or where a key is named as a device. */
  uploadCrossSigningKeys: defineCommand({
    name: 'uploadCrossSigningKeys',
    request: v.object({
      user_id: UserId,
      /** The user passed user-interactive authentication for this. */
      authenticated: v.boolean(),
      master: v.optional(CrossSigningKeyWrite),
      self_signing: v.optional(CrossSigningKeyWrite),
      user_signing: v.optional(CrossSigningKeyWrite),
    }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Keeps the signatures that hold; answers with the others. */
  uploadSignatures: defineCommand({
    name: 'uploadSignatures',
    request: v.object({ user_id: UserId, signed: v.array(SignedKey) }),
    response: v.object({
      failures: v.array(
        v.object({
          user_id: UserId,
          key_id: v.string(),
          errcode: v.picklist(['M_INVALID_SIGNATURE', 'M_NOT_FOUND', 'M_INVALID_PARAM']),
          error: v.string(),
        }),
      ),
    }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
} as const
