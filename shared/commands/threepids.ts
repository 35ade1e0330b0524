/** Commands on third-party ids: showing to own one, and having it on an account. Addresses are in canonical form. */
import * as v from 'valibot'
import { UserId } from '../matrix/ids.ts'
import { Medium } from '../matrix/threepid.ts'
import { defineCommand } from './define.ts'

const threepid = { medium: Medium, address: v.string() }

/** What somebody has shown to own. */
export const ProvenThreepid = v.object({ ...threepid, validated_ts: v.number() })
export type ProvenThreepid = v.InferOutput<typeof ProvenThreepid>

/** What an address is shown for; it opens nothing else. */
export const ThreepidPurpose = v.picklist(['register', 'add', 'reset'])
export type ThreepidPurpose = v.InferOutput<typeof ThreepidPurpose>

/** By which a client names what its user has shown to own. */
export const ThreepidCreds = v.object({ sid: v.string(), client_secret: v.string() })
export type ThreepidCreds = v.InferOutput<typeof ThreepidCreds>

export const threepidCommands = {
  /** Sends a token to the address, once for each `send_attempt`. Throws M_THREEPID_IN_USE or M_THREEPID_NOT_FOUND, unless
   *  nobody is to learn which addresses there are. */
  requestThreepidToken: defineCommand({
    name: 'requestThreepidToken',
    request: v.object({
      purpose: ThreepidPurpose,
      ...threepid,
      client_secret: v.string(),
      send_attempt: v.number(),
      next_link: v.optional(v.string()),
    }),
    response: v.object({ sid: v.string() }),
    // Two requests for one address, one after the other.
    shard: ({ medium, address }) => `${medium} ${address}`,
    repetition: 'recorded',
  }),
  /** The address is its user's, as the token shows. Throws M_TOKEN_INCORRECT, M_SESSION_EXPIRED. */
  submitThreepidToken: defineCommand({
    name: 'submitThreepidToken',
    request: v.object({ sid: v.string(), client_secret: v.optional(v.string()), token: v.string() }),
    response: v.object({ next_link: v.optional(v.string()) }),
    shard: ({ sid }) => sid,
    repetition: 'harmless',
  }),
  /** Throws M_THREEPID_AUTH_FAILED where nothing was shown, M_THREEPID_IN_USE where somebody else has it. */
  addThreepid: defineCommand({
    name: 'addThreepid',
    request: v.object({ user_id: UserId, creds: ThreepidCreds }),
    response: v.object({}),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  deleteThreepid: defineCommand({
    name: 'deleteThreepid',
    request: v.object({ user_id: UserId, ...threepid }),
    response: v.object({}),
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
} as const
