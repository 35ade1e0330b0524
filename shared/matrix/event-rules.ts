/** What a room version says about the shape of its events: format, ids, redaction. The versions themselves, as a table,
 *  are in shared/core/room-versions.ts. */

/** https://spec.matrix.org/v1.19/rooms/v11/#redactions */
export interface RedactionRules {
  /** Top-level keys that survive. */
  readonly keys: ReadonlySet<string>
  /** Keys of `content` that survive, by event type; types that are not here lose all. */
  readonly content: Readonly<Record<string, 'all' | readonly string[]>>
  /** `m.room.member` keeps `third_party_invite`, with its `signed` alone. */
  readonly keepsThirdPartyInviteSigned: boolean
}

export interface EventRules {
  /** Where an event's id comes from: the wire, or the reference hash in one of two alphabets. */
  readonly eventIdFormat: 'given' | 'base64' | 'url-safe'
  /** `prev_events` and `auth_events` are `[event_id, hashes]` pairs on the wire, not plain ids. */
  readonly eventReferencesHaveHashes: boolean
  /** `type` and `state_key` are limited by bytes; before, by code points, as servers have always taken them. */
  readonly fieldLimitInBytes: boolean
  /** Events that are not canonical JSON (floats, integers beyond ±(2^53-1)) are invalid. */
  readonly strictCanonicalJson: boolean
  readonly redaction: RedactionRules
  /** `redacts` is a key of `content`, not of the event. */
  readonly redactsInContent: boolean
  /** The room id is the create event's id with `!` for `$`; that event has no `room_id` and is in no `auth_events`. */
  readonly roomIdIsCreateHash: boolean
}
