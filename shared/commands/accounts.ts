/** Commands on accounts, devices and tokens. Passwords and tokens pass here in the clear, over a function call or a
 *  secured link, and are never logged; only main makes and compares their hashes. */
import * as v from 'valibot'
import { DeviceId, UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'
import { shardOfToken } from './shards.ts'

const noReply = v.object({})

/** Where a session was opened from. */
const origin = { ip: v.optional(v.string()), agent: v.optional(v.string()) }
const sessionWish = {
  /** A known device is taken over: its former tokens end. Absent: a new device. */
  device_id: v.optional(DeviceId),
  initial_device_display_name: v.optional(v.string()),
  /** The client can refresh: the access token expires and comes with a refresh token. */
  refreshable: v.boolean(),
  ...origin,
}
export const Session = v.object({
  user_id: UserId,
  device_id: DeviceId,
  access_token: v.string(),
  refresh_token: v.optional(v.string()),
  expires_in_ms: v.optional(v.number()),
})
export type Session = v.InferOutput<typeof Session>

/** What a client sends under `auth`, and what comes of it. https://spec.matrix.org/v1.19/client-server-api/#user-interactive-authentication-api */
export const InteractiveAuth = v.object({
  type: v.optional(v.string()),
  session: v.optional(v.string()),
  identifier: v.optional(v.object({ type: v.optional(v.string()), user: v.optional(v.string()) })),
  user: v.optional(v.string()),
  password: v.optional(v.string()),
  /** Of stage m.login.registration_token. */
  token: v.optional(v.string()),
})
export type InteractiveAuth = v.InferOutput<typeof InteractiveAuth>

export const accountCommands = {
  /** Makes an account and, if asked, its first session. Throws M_USER_IN_USE, and M_FORBIDDEN where the session of
   *  interactive authentication no longer holds a registration token. */
  register: defineCommand({
    name: 'register',
    request: v.object({
      user_id: UserId,
      password: v.optional(v.string()),
      kind: v.picklist(['user', 'guest']),
      admin: v.boolean(),
      displayname: v.optional(v.string()),
      session: v.optional(v.object(sessionWish)),
      /** The account is a guest's, who has it as a full one from now on. */
      upgrades_guest: v.optional(v.boolean()),
      /** Session of interactive authentication that holds one use of a registration token. */
      token_session: v.optional(v.string()),
    }),
    response: v.object({ user_id: UserId, session: v.optional(Session) }),
    shard: (request) => request.user_id,
    repetition: 'sealed',
  }),
  /** Opens a session. Throws M_FORBIDDEN where the credentials are wrong, M_USER_DEACTIVATED where they were right once. */
  login: defineCommand({
    name: 'login',
    request: v.object({
      credentials: v.variant('type', [
        v.object({ type: v.literal('m.login.password'), user_id: UserId, password: v.string() }),
        v.object({ type: v.literal('m.login.token'), token: v.string() }),
      ]),
      session: v.object(sessionWish),
    }),
    response: Session,
    shard: ({ credentials }) =>
      credentials.type === 'm.login.token' ? shardOfToken(credentials.token) : credentials.user_id,
    repetition: 'sealed',
  }),
  createLoginToken: defineCommand({
    name: 'createLoginToken',
    request: v.object({ user_id: UserId }),
    response: v.object({ login_token: v.string(), expires_in_ms: v.number() }),
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  createOpenIdToken: defineCommand({
    name: 'createOpenIdToken',
    request: v.object({ user_id: UserId }),
    response: v.object({ access_token: v.string(), expires_in_ms: v.number() }),
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** Throws M_UNKNOWN_TOKEN. Can be repeated until the new pair is used, since the answer may have been lost. */
  refreshSession: defineCommand({
    name: 'refreshSession',
    request: v.object({ refresh_token: v.string() }),
    response: v.object({ access_token: v.string(), refresh_token: v.string(), expires_in_ms: v.number() }),
    shard: (request) => shardOfToken(request.refresh_token),
    repetition: 'harmless',
  }),
  /** The access token of a refreshed pair arrived: the pair before it ends. */
  confirmRefresh: defineCommand({
    name: 'confirmRefresh',
    request: v.object({ user_id: UserId, token_hash: v.string() }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** Ends sessions; their devices go with them. Absent `device_ids`: all of the user's. */
  deleteDevices: defineCommand({
    name: 'deleteDevices',
    request: v.object({ user_id: UserId, device_ids: v.optional(v.array(DeviceId)) }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Throws M_NOT_FOUND. */
  renameDevice: defineCommand({
    name: 'renameDevice',
    request: v.object({ user_id: UserId, device_id: DeviceId, display_name: v.string() }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  deviceSeen: defineCommand({
    name: 'deviceSeen',
    request: v.object({ user_id: UserId, device_id: DeviceId, ts: v.number(), ...origin }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  changePassword: defineCommand({
    name: 'changePassword',
    request: v.object({
      user_id: UserId,
      new_password: v.string(),
      /** Ends all sessions but that of `keep_device_id`. */
      logout_devices: v.boolean(),
      keep_device_id: v.optional(DeviceId),
    }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** Locks and suspends, or ends that. Every session of the user feels it at once. */
  setAccountStatus: defineCommand({
    name: 'setAccountStatus',
    request: v.object({ user_id: UserId, locked: v.optional(v.boolean()), suspended: v.optional(v.boolean()) }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** The account can never be used again; its user leaves all rooms. */
  deactivateAccount: defineCommand({
    name: 'deactivateAccount',
    request: v.object({ user_id: UserId, erase: v.boolean() }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
    // The user leaves all rooms before the answer.
    deadlineMs: 60_000,
  }),
  /** `value` is JSON text; absent: the field is taken away. Display name and avatar go into the rooms of the user too. */
  setProfileField: defineCommand({
    name: 'setProfileField',
    request: v.object({ user_id: UserId, field: v.string(), value: v.optional(v.string()) }),
    response: noReply,
    shard: (request) => request.user_id,
    repetition: 'harmless',
    // It goes into every room of the user before the answer.
    deadlineMs: 60_000,
  }),
  /** One step of user-interactive authentication: `passed` when one of the flows is complete. */
  authenticateInteractively: defineCommand({
    name: 'authenticateInteractively',
    request: v.object({
      /** What the session is for; it opens nothing else. */
      operation: v.string(),
      /** Whose account it is about; absent before there is one. */
      user_id: v.optional(UserId),
      flows: v.array(v.array(v.string())),
      /** The session ends when it is passed: the next call asks again. */
      once: v.optional(v.boolean()),
      auth: v.optional(InteractiveAuth),
    }),
    response: v.object({
      passed: v.boolean(),
      session: v.optional(v.string()),
      completed: v.array(v.string()),
      failure: v.optional(
        v.object({ errcode: v.picklist(['M_FORBIDDEN', 'M_UNAUTHORIZED', 'M_UNRECOGNIZED']), error: v.string() }),
      ),
    }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
} as const
