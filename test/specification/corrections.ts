/** Where the specification's own description of an answer is wrong, or says less than its text: each with its reason. */
import { isRecord, type Specification } from './specification.ts'

interface Correction {
  /** `operations/<id>/responses/<status>/…` or `schemas/<name>/…`, as in client-server.json. */
  readonly at: readonly string[]
  readonly becomes: (was: unknown) => object
  /** Nothing is there. */
  readonly adds?: true
  readonly why: string
}

const text = { type: 'string' }
const textOrNull = { type: ['string', 'null'] }
const userId = { type: 'string', format: 'mx-user-id' }
const sync = ['operations', 'sync', 'responses', '200', 'schema', 'properties']
const joinedMember =
  'operations/getJoinedMembersByRoom/responses/200/schema/properties/joined/patternProperties/^@/properties'.split('/')

export const corrections: readonly Correction[] = [
  {
    at: ['operations', 'getRoomStateWithKey', 'responses', '200', 'schema'],
    becomes: () => ({ type: 'object' }),
    why: 'It is one of any object and a state event; a state event is an object too.',
  },
  {
    at: [...joinedMember, 'display_name'],
    becomes: () => textOrNull,
    why: 'Conformance tests ask for the key of members without a name as well.',
  },
  {
    at: [...joinedMember, 'avatar_url'],
    becomes: () => textOrNull,
    why: 'As display_name.',
  },
  {
    at: [...sync, 'to_device'],
    becomes: () => ({
      type: 'object',
      required: ['events'],
      properties: {
        events: {
          type: 'array',
          items: {
            type: 'object',
            required: ['type', 'sender', 'content'],
            properties: { type: text, sender: userId, content: { type: 'object' } },
          },
        },
      },
    }),
    why: 'Its content is in words alone: client-server-api/#extensions-to-sync.',
  },
  {
    at: [...sync, 'device_lists'],
    becomes: () => ({
      type: 'object',
      properties: { changed: { type: 'array', items: userId }, left: { type: 'array', items: userId } },
    }),
    why: 'Its content is in words alone: client-server-api/#e2e-extensions-to-sync.',
  },
  {
    at: ['operations', 'uploadCrossSigningKeys', 'responses', '401'],
    becomes: () => ({
      types: ['application/json'],
      schema: { $ref: '#/schemas/client-server.definitions.auth_response' },
      requiredHeaders: [],
    }),
    adds: true,
    why: 'It is said to use user-interactive authentication, without the answer that asks for it.',
  },
  {
    at: ['operations', 'getTurnServer', 'responses', '200', 'schema'],
    becomes: (was) => ({ anyOf: [was, { type: 'object', maxProperties: 0 }] }),
    why: 'There is no word for a server without TURN. Clients call without it where `uris` is absent, and fail on none in it.',
  },
  ...['sendMessage', 'setRoomStateWithKey'].map((id) => ({
    at: ['operations', id, 'responses', '200', 'schema'],
    becomes: (was: unknown) => ({
      anyOf: [
        was,
        { type: 'object', properties: { delay_id: text }, required: ['delay_id'], not: { required: ['event_id'] } },
      ],
    }),
    why: 'With a delay it is scheduled, and has no event id yet (MSC4140).',
  })),
  ...['getEvents', 'peekEvents'].map((id) => ({
    at: ['operations', id, 'responses', '200', 'schema', 'properties', 'chunk', 'items'],
    becomes: (was: unknown) => ({
      anyOf: [
        was,
        {
          allOf: [{ $ref: '#/schemas/event-schemas.schema.core-event-schema.event' }],
          not: { required: ['event_id'] },
        },
      ],
    }),
    why: 'It is the only way for old clients to hear of presence, typing, receipts and account data.',
  })),
]

/** The description with every correction in its place. Throws where one has no place to go to: then it is out of date. */
export function corrected(specification: Specification): Specification {
  for (const { at, becomes, adds } of corrections) {
    let place: Record<string, unknown> = { ...specification }
    for (const key of at.slice(0, -1)) {
      const next = place[key]
      if (!isRecord(next)) throw new Error(`nothing to correct at ${at.join('/')}`)
      place = next
    }
    const last = at.at(-1) ?? ''
    if (Object.hasOwn(place, last) === (adds === true)) throw new Error(`nothing to correct at ${at.join('/')}`)
    place[last] = becomes(place[last])
  }
  return specification
}
