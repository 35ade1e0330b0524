/** Commands on what an account depends on: consent to the policies, and its time. */
import * as v from 'valibot'
import { UserId } from '../matrix/ids.ts'
import { defineCommand } from './define.ts'

export const accountTermsCommands = {
  /** For the link to the page of consent: shows that whoever comes with it is the user. */
  createConsentToken: defineCommand({
    name: 'createConsentToken',
    request: v.object({ user_id: UserId }),
    response: v.object({ token: v.string() }),
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** `consent` as shared/policies.ts names what was shown. Throws M_FORBIDDEN for a token that is not the user's or too old,
   *  and M_INVALID_PARAM where the policies are others by now. */
  giveConsent: defineCommand({
    name: 'giveConsent',
    request: v.object({ user_id: UserId, token: v.string(), consent: v.string() }),
    response: v.object({}),
    shard: (request) => request.user_id,
    repetition: 'harmless',
  }),
  /** Who registers has agreed to the policies on the server's page: stage m.login.terms of the session is passed. Throws
   *  M_FORBIDDEN where that is no session of a registration, or it was begun under other policies. */
  agreeAtRegistration: defineCommand({
    name: 'agreeAtRegistration',
    request: v.object({ session: v.string() }),
    response: v.object({}),
    shard: () => undefined,
    repetition: 'harmless',
  }),
  /** Sends a link to each email address of the user. Throws M_FORBIDDEN where accounts do not expire. */
  sendRenewalMail: defineCommand({
    name: 'sendRenewalMail',
    request: v.object({ user_id: UserId }),
    response: v.object({}),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** By the token of a link, which is good once. Throws M_FORBIDDEN. */
  renewAccount: defineCommand({
    name: 'renewAccount',
    request: v.object({ user_id: UserId, token: v.string() }),
    response: v.object({ expires_ts: v.number() }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
  /** As an administrator wants it. Absent `expires_ts`: a period from now. Throws M_NOT_FOUND. */
  setAccountValidity: defineCommand({
    name: 'setAccountValidity',
    request: v.object({ user_id: UserId, expires_ts: v.optional(v.number()), send_mail: v.optional(v.boolean()) }),
    response: v.object({ expires_ts: v.number() }),
    shard: (request) => request.user_id,
    repetition: 'recorded',
  }),
} as const
