/** As much of a sync's answer as older endpoints are made from. */
import * as v from 'valibot'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'

const Events = v.optional(v.object({ events: v.array(v.custom<JsonObject>(isJsonObject)) }))
const Timeline = v.optional(
  v.object({ events: v.array(v.custom<JsonObject>(isJsonObject)), prev_batch: v.optional(v.string()) }),
)
const Room = v.object({ timeline: Timeline, state_after: Events, account_data: Events, ephemeral: Events })
export type AnsweredRoom = v.InferOutput<typeof Room>

export const Answered = v.object({
  next_batch: v.string(),
  presence: Events,
  account_data: Events,
  rooms: v.optional(
    v.object({
      join: v.optional(v.record(v.string(), Room)),
      leave: v.optional(v.record(v.string(), Room)),
      invite: v.optional(v.record(v.string(), v.unknown())),
    }),
  ),
})
export type Answered = v.InferOutput<typeof Answered>
