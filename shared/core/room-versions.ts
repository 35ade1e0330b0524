/** Room versions 1 to 12, and those of proposals that others serve too, as data: a version is the one before it plus its
 *  differences, so nothing elsewhere compares version numbers. https://spec.matrix.org/v1.19/rooms/ */
import type { EventRules, RedactionRules } from '../matrix/event-rules.ts'

/** Names of the authorisation rules, in the specification's order; a version's outline says which it has. */
export type RuleName = keyof typeof ruleTitles

const ruleTitles = {
  create: 'm.room.create',
  createHasPrevEvents: 'a create event has no prev_events',
  createRoomIdDomain: "the room id's domain is the creator's",
  createHasRoomId: 'a create event has no room_id',
  createRoomVersion: 'the room version is recognised',
  createCreator: 'content has a creator',
  createAdditionalCreators: 'additional_creators are user ids',
  roomIsCreate: 'the room id is that of an accepted create event',
  authEvents: 'auth_events',
  authEventsDuplicate: 'one auth event for each type and state key',
  authEventsSelection: 'only selected auth events',
  authEventsRejected: 'no rejected auth events',
  authEventsCreate: 'the create event is an auth event',
  authEventsRoom: 'auth events are of the same room',
  federate: 'm.federate',
  aliases: 'm.room.aliases',
  member: 'm.room.member',
  memberShape: 'state_key and membership',
  memberAuthorisedSignature: 'signature of the authorising server',
  join: 'membership: join',
  joinFirst: "the creator's first join",
  joinSender: 'nobody joins for another',
  joinBanned: 'the banned stay out',
  joinInvite: 'join rules invite and knock',
  joinRestricted: 'join rules restricted and knock_restricted',
  joinPublic: 'join rule public',
  joinOtherwise: 'otherwise',
  invite: 'membership: invite',
  leave: 'membership: leave',
  ban: 'membership: ban',
  knock: 'membership: knock',
  memberUnknown: 'unknown membership',
  senderJoined: 'the sender is joined',
  thirdPartyInvite: 'm.room.third_party_invite',
  requiredLevel: 'required power level',
  userStateKey: "state keys that are another user's id",
  powerLevels: 'm.room.power_levels',
  levelsIntegers: 'levels are integers',
  levelsMaps: 'events and notifications map to integers',
  levelsUsers: 'users maps user ids to integers',
  levelsCreators: 'creators have no level of their own',
  levelsFirst: 'the first power levels event',
  levelsProperties: 'changed properties',
  levelsEntriesBefore: 'entries changed or removed',
  levelsEntriesAfter: 'entries added or changed',
  levelsUsersBefore: 'users changed or removed',
  levelsUsersAfter: 'users added or changed',
  redaction: 'm.room.redaction',
  otherwise: 'otherwise',
} as const

/** A version's rules as an ordered outline: the place of a name is its number. */
interface Outline {
  readonly rules: readonly RuleName[]
  readonly create: readonly RuleName[]
  readonly authEvents: readonly RuleName[]
  readonly member: readonly RuleName[]
  readonly join: readonly RuleName[]
  readonly powerLevels: readonly RuleName[]
}

export interface RoomRules extends EventRules {
  readonly version: string
  /** False for the version of a proposal: it serves who asks for it by name. */
  readonly stable: boolean
  readonly stateResolution: 'v1' | 'v2' | 'v2.1'
  /** A signing key must be valid at the event's `origin_server_ts`. */
  readonly enforcesKeyValidity: boolean
  /** Whether a redaction takes effect is decided by the authorisation rules, not on application. */
  readonly redactionsAreAuthorised: boolean
  /** `m.room.aliases` has an authorisation rule of its own. */
  readonly aliasesRule: boolean
  /** Changes to `notifications` in power levels are checked as those to `events`. */
  readonly checksNotificationLevels: boolean
  /** Power levels must be integers; before, strings that hold one count too. */
  readonly integerPowerLevels: boolean
  /** Power levels may be floats, cut off at the decimal point. */
  readonly floatPowerLevels: boolean
  readonly knocking: boolean
  readonly restrictedJoins: boolean
  readonly knockRestricted: boolean
  /** The creator is the create event's sender; before, `content.creator`. */
  readonly implicitRoomCreator: boolean
  /** The create event's sender and `additional_creators` outrank every power level. */
  readonly creatorsHaveInfinitePower: boolean
  /** A state key that begins with a user id and an underscore is that user's as well, and who outranks the user may set
   *  it. https://github.com/matrix-org/matrix-spec-proposals/pull/3757 */
  readonly ownedState: boolean
  /** The number of each authorisation rule that this version has, as in its page of the specification. */
  readonly ruleNumbers: Readonly<Partial<Record<RuleName, string>>>
}

type Differences = Partial<Omit<RoomRules, 'version' | 'ruleNumbers'>>
type Version = RoomRules & { readonly outline: Outline }

const outlineV1: Outline = {
  rules: [
    'create',
    'authEvents',
    'federate',
    'aliases',
    'member',
    'senderJoined',
    'thirdPartyInvite',
    'requiredLevel',
    'userStateKey',
    'powerLevels',
    'redaction',
    'otherwise',
  ],
  create: ['createHasPrevEvents', 'createRoomIdDomain', 'createRoomVersion', 'createCreator'],
  authEvents: [
    'authEventsDuplicate',
    'authEventsSelection',
    'authEventsRejected',
    'authEventsCreate',
    'authEventsRoom',
  ],
  member: ['memberShape', 'join', 'invite', 'leave', 'ban', 'memberUnknown'],
  join: ['joinFirst', 'joinSender', 'joinBanned', 'joinInvite', 'joinPublic', 'joinOtherwise'],
  powerLevels: [
    'levelsUsers',
    'levelsFirst',
    'levelsProperties',
    'levelsEntriesBefore',
    'levelsEntriesAfter',
    'levelsUsersBefore',
    'levelsUsersAfter',
  ],
}

const without = (names: readonly RuleName[], gone: RuleName): RuleName[] => names.filter((name) => name !== gone)
const after = (names: readonly RuleName[], place: RuleName, ...added: RuleName[]): RuleName[] =>
  names.flatMap((name) => (name === place ? [name, ...added] : [name]))
const instead = (names: readonly RuleName[], old: RuleName, replacement: RuleName): RuleName[] =>
  names.map((name) => (name === old ? replacement : name))

function numbersOf(outline: Outline): RoomRules['ruleNumbers'] {
  const numbers: Partial<Record<RuleName, string>> = {}
  const number = (names: readonly RuleName[], prefix: string) => {
    names.forEach((name, index) => {
      numbers[name] = `${prefix}${index + 1}`
    })
  }
  number(outline.rules, '')
  number(outline.create, `${numbers.create}.`)
  number(outline.authEvents, `${numbers.authEvents}.`)
  number(outline.member, `${numbers.member}.`)
  number(outline.join, `${numbers.join}.`)
  number(outline.powerLevels, `${numbers.powerLevels}.`)
  return numbers
}

function next(version: string, before: Version, differences: Differences, outline: Partial<Outline> = {}): Version {
  const whole = { ...before.outline, ...outline }
  return { ...before, ...differences, version, outline: whole, ruleNumbers: numbersOf(whole) }
}

const redactionV1: RedactionRules = {
  keys: new Set([
    'event_id',
    'type',
    'room_id',
    'sender',
    'state_key',
    'content',
    'hashes',
    'signatures',
    'depth',
    'prev_events',
    'prev_state',
    'auth_events',
    'origin',
    'origin_server_ts',
    'membership',
  ]),
  content: {
    'm.room.member': ['membership'],
    'm.room.create': ['creator'],
    'm.room.join_rules': ['join_rule'],
    'm.room.power_levels': [
      'ban',
      'events',
      'events_default',
      'kick',
      'redact',
      'state_default',
      'users',
      'users_default',
    ],
    'm.room.aliases': ['aliases'],
    'm.room.history_visibility': ['history_visibility'],
  },
  keepsThirdPartyInviteSigned: false,
}
const redactionV6: RedactionRules = { ...redactionV1, content: { ...redactionV1.content, 'm.room.aliases': [] } }
const redactionV8: RedactionRules = {
  ...redactionV6,
  content: { ...redactionV6.content, 'm.room.join_rules': ['join_rule', 'allow'] },
}
const redactionV9: RedactionRules = {
  ...redactionV8,
  content: { ...redactionV8.content, 'm.room.member': ['membership', 'join_authorised_via_users_server'] },
}
const redactionV11: RedactionRules = {
  keys: new Set([...redactionV9.keys].filter((key) => !['origin', 'membership', 'prev_state'].includes(key))),
  content: {
    ...redactionV9.content,
    'm.room.create': 'all',
    'm.room.power_levels': [
      'ban',
      'events',
      'events_default',
      'invite',
      'kick',
      'redact',
      'state_default',
      'users',
      'users_default',
    ],
    'm.room.redaction': ['redacts'],
  },
  keepsThirdPartyInviteSigned: true,
}

const v1: Version = {
  version: '1',
  stable: true,
  eventIdFormat: 'given',
  eventReferencesHaveHashes: true,
  stateResolution: 'v1',
  fieldLimitInBytes: false,
  strictCanonicalJson: false,
  enforcesKeyValidity: false,
  redaction: redactionV1,
  redactsInContent: false,
  redactionsAreAuthorised: true,
  aliasesRule: true,
  checksNotificationLevels: false,
  integerPowerLevels: false,
  floatPowerLevels: true,
  knocking: false,
  restrictedJoins: false,
  knockRestricted: false,
  implicitRoomCreator: false,
  creatorsHaveInfinitePower: false,
  ownedState: false,
  roomIdIsCreateHash: false,
  outline: outlineV1,
  ruleNumbers: numbersOf(outlineV1),
}
const v2 = next('2', v1, { stateResolution: 'v2' })
const v3 = next(
  '3',
  v2,
  { eventIdFormat: 'base64', eventReferencesHaveHashes: false, redactionsAreAuthorised: false },
  { rules: without(v2.outline.rules, 'redaction') },
)
const v4 = next('4', v3, { eventIdFormat: 'url-safe' })
const v5 = next('5', v4, { enforcesKeyValidity: true })
const v6 = next(
  '6',
  v5,
  {
    strictCanonicalJson: true,
    redaction: redactionV6,
    aliasesRule: false,
    checksNotificationLevels: true,
    floatPowerLevels: false,
  },
  { rules: without(v5.outline.rules, 'aliases') },
)
const v7 = next('7', v6, { knocking: true }, { member: after(v6.outline.member, 'ban', 'knock') })
const v8 = next(
  '8',
  v7,
  { restrictedJoins: true, redaction: redactionV8 },
  {
    member: after(v7.outline.member, 'memberShape', 'memberAuthorisedSignature'),
    join: after(v7.outline.join, 'joinInvite', 'joinRestricted'),
  },
)
const v9 = next('9', v8, { redaction: redactionV9 })
const v10 = next(
  '10',
  v9,
  { knockRestricted: true, integerPowerLevels: true },
  { powerLevels: ['levelsIntegers', 'levelsMaps', ...v9.outline.powerLevels] },
)
const v11 = next(
  '11',
  v10,
  { redaction: redactionV11, redactsInContent: true, implicitRoomCreator: true, fieldLimitInBytes: true },
  { create: without(v10.outline.create, 'createCreator') },
)
const v12 = next(
  '12',
  v11,
  { stateResolution: 'v2.1', creatorsHaveInfinitePower: true, roomIdIsCreateHash: true },
  {
    rules: after(v11.outline.rules, 'create', 'roomIsCreate'),
    create: after(
      instead(v11.outline.create, 'createRoomIdDomain', 'createHasRoomId'),
      'createRoomVersion',
      'createAdditionalCreators',
    ),
    authEvents: without(v11.outline.authEvents, 'authEventsCreate'),
    powerLevels: after(v11.outline.powerLevels, 'levelsUsers', 'levelsCreators'),
  },
)

const owned10 = next('org.matrix.msc3757.10', v10, { stable: false, ownedState: true })
const owned11 = next('org.matrix.msc3757.11', v11, { stable: false, ownedState: true })

const versions = [v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, owned10, owned11]

/** Every version that this server knows, by its name. */
export const roomRules: Readonly<Record<string, RoomRules>> = Object.freeze(
  Object.assign(
    Object.create(null) as Record<string, RoomRules>,
    Object.fromEntries(versions.map((rules) => [rules.version, rules])),
  ),
)

/** The version of new rooms when nobody asks for another. */
export const defaultRoomVersion = '12'

/** The rules of a version; undefined when it is not recognised. */
export function rulesOf(version: string): RoomRules | undefined {
  return roomRules[version]
}
