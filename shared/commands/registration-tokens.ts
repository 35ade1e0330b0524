/** Commands on registration tokens, which administrators give out.
 *  https://spec.matrix.org/v1.19/client-server-api/#token-authenticated-registration */
import * as v from 'valibot'
import { defineCommand } from './define.ts'

/** null: no bound. */
const bound = v.nullish(v.pipe(v.number(), v.safeInteger(), v.minValue(0)))
const limits = {
  /** How many accounts may be made with it. */
  uses_allowed: bound,
  /** Milliseconds since the epoch. */
  expiry_ts: bound,
}
const named = v.object({ token: v.string() })

export const registrationTokenCommands = {
  /** Throws M_INVALID_PARAM where there is such a token, or too many. */
  createRegistrationToken: defineCommand({
    name: 'createRegistrationToken',
    request: v.object({ token: v.string(), ...limits }),
    response: named,
    shard: () => undefined,
    repetition: 'recorded',
  }),
  /** What is absent stays as it is. Throws M_NOT_FOUND. */
  updateRegistrationToken: defineCommand({
    name: 'updateRegistrationToken',
    request: v.object({ token: v.string(), ...limits }),
    response: named,
    shard: () => undefined,
    repetition: 'harmless',
  }),
  /** Throws M_NOT_FOUND. */
  deleteRegistrationToken: defineCommand({
    name: 'deleteRegistrationToken',
    request: named,
    response: v.object({}),
    shard: () => undefined,
    repetition: 'recorded',
  }),
} as const
