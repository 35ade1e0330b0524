/** What this server is and can. */
import type { Config } from '../../../shared/config/schema.ts'
import { roomRules } from '../../../shared/core/room-versions.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { route } from '../deps.ts'
import { mayChangeField } from '../profile/fields.ts'
import { mediaServed } from './media-served.ts'

/** Versions of the specification whose client-server API clients may count on. */
const specVersions = Array.from({ length: 19 }, (_, minor) => `v1.${minor + 1}`)

/** Features beyond the listed versions that work as in the version that has them. */
const unstableFeatures = {
  /** Profile fields of v1.16. */
  'uk.tcpip.msc4133': true,
  'uk.tcpip.msc4133.stable': true,
  /** Dehydrated devices. */
  'org.matrix.msc3814': true,
  /** Sliding sync, MSC4186. */
  'org.matrix.simplified_msc3575': true,
  /** Rooms that two users share. */
  'uk.half-shot.msc2666.query_mutual_rooms': true,
  'uk.half-shot.msc2666.query_mutual_rooms.stable': true,
  /** Room summaries of v1.15. */
  'org.matrix.msc3266': true,
  'org.matrix.msc3266.stable': true,
  /** Delayed events. */
  'org.matrix.msc4140': true,
  'org.matrix.msc4140.stable': true,
  /** Jump to a time, of v1.6. */
  'org.matrix.msc3030': true,
  /** Invites that the user does not take: of v1.18, and lists of users and servers. */
  'org.matrix.msc4380.stable': true,
  'org.matrix.msc4155': true,
  /** Account data that is taken away. */
  'org.matrix.msc3391': true,
  /** Filters by the relation of an event, and relations of relations. */
  'org.matrix.msc3874': true,
  'org.matrix.msc3981': true,
  /** Threads that one follows. Which threads notify whom does not depend on it. */
  'org.matrix.msc4306': true,
  /** What is in the listed versions, for clients that look for it here. */
  'org.matrix.e2e_cross_signing': true,
  'org.matrix.msc2285.stable': true,
  'org.matrix.msc2432': true,
  'org.matrix.msc3440.stable': true,
  'org.matrix.msc3771': true,
  'org.matrix.msc3827.stable': true,
}

export const getVersions = route({
  method: 'GET',
  path: '/_matrix/client/versions',
  spec: 'client-server-api/#get_matrixclientversions',
  auth: 'none',
  handle: () => ({ versions: specVersions, unstable_features: unstableFeatures }),
})

export const getCapabilities = route({
  method: 'GET',
  path: '/_matrix/client/v3/capabilities',
  spec: 'client-server-api/#get_matrixclientv3capabilities',
  auth: 'guest',
  handle: ({ user }, { config }) => ({
    capabilities: {
      'm.change_password': { enabled: config.password.enabled && !user.guest },
      'm.room_versions': {
        default: config.rooms.default_version,
        available: Object.fromEntries(
          Object.values(roomRules).map(({ version, stable }) => [version, stable ? 'stable' : 'unstable']),
        ),
      },
      'm.set_displayname': { enabled: mayChangeField('displayname', config) },
      'm.set_avatar_url': { enabled: mayChangeField('avatar_url', config) },
      'm.profile_fields': config.profile_fields,
      'm.3pid_changes': { enabled: config.threepids.changes && mediaServed(config).length > 0 && !user.guest },
      'm.get_login_token': { enabled: !user.guest },
      'm.delayed_events': delayedEvents(config),
      'org.matrix.msc4140.delayed_events': delayedEvents(config),
      ...(user.admin ? { 'm.account_moderation': { suspend: true, lock: true } } : {}),
    },
  }),
})

function delayedEvents({ delayed_events: { max_delay, max_per_user } }: Config): object {
  return { max_delay_ms: max_delay, max_scheduled: max_per_user }
}

export const getWellKnownClient = route({
  method: 'GET',
  path: '/.well-known/matrix/client',
  spec: 'client-server-api/#getwell-knownmatrixclient',
  auth: 'none',
  handle(_, { config }) {
    if (config.public_baseurl === undefined) throw new MatrixError('M_NOT_FOUND', 'This server announces no address')
    return { 'm.homeserver': { base_url: config.public_baseurl } }
  },
})

export const getWellKnownSupport = route({
  method: 'GET',
  path: '/.well-known/matrix/support',
  spec: 'client-server-api/#getwell-knownmatrixsupport',
  auth: 'none',
  handle(_, { config }) {
    if (!config.support) throw new MatrixError('M_NOT_FOUND', 'This server announces no contacts')
    return config.support
  },
})
