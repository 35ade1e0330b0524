/** The route table against what it stands for: the roles' own declarations, and the specification's list of endpoints. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { clientRoutes } from '../../functions/client/routes.ts'
import { isRepeatable } from '../../functions/edge/repeatable.ts'
import { federationRoutes } from '../../functions/federation/routes.ts'
import { mediaRoutes } from '../../functions/media/routes.ts'
import { syncRoutes } from '../../functions/sync/routes.ts'
import { prefixes } from '../../shared/http/route-data.ts'
import { roleOf, routeTable } from '../../shared/http/route-table.ts'

/** role, method, path with {names}, api, operation, auth, sticky. */
const specified = readFileSync(path.join(import.meta.dirname, 'spec-routes.tsv'), 'utf8')
  .trim()
  .split('\n')
  .slice(1)
  .map((line) => line.split('\t'))
  .map(([role = '', method = '', template = '', , , , sticky = '']) => ({ role, method, template, sticky }))

const exampleOf = (template: string) => template.replace(/\{(\w+)\}|:(\w+)/g, '!some%2Fthing%3Aother.example')

describe('declared routes', () => {
  const declared = [
    ...clientRoutes.map((route) => ({ role: 'client', route })),
    ...syncRoutes.map((route) => ({ role: 'sync', route })),
    ...mediaRoutes.map((route) => ({ role: 'media', route })),
    ...federationRoutes.map((route) => ({ role: 'federation', route })),
  ]
  test.each(declared.map((each) => [`${each.route.method} ${each.route.path}`, each] as const))(
    '%s',
    (_, { role, route }) => {
      const entry = routeTable.find(({ method, path: known }) => method === route.method && known === route.path)
      expect(entry).toMatchObject({ role })
      // Where a role says what its caches go by, the table follows.
      if (route.sticky !== undefined) expect(entry?.sticky).toBe(route.sticky)
    },
  )
})

describe('endpoints of the specification', () => {
  test('there are some', () => expect(specified.length).toBe(200))
  test.each(specified.map((row) => [`${row.method} ${row.template}`, row] as const))(
    '%s',
    (_, { role, method, template, sticky }) => {
      const to = roleOf(method, `${exampleOf(template)}?since=1`)
      expect(to?.role).toBe(role)
      if (sticky !== '-') expect(to?.sticky).toBe(sticky)
    },
  )
})

describe('roleOf', () => {
  test.each([
    ['GET', '/_matrix/client/r0/sync?timeout=0', 'sync'],
    ['HEAD', '/_matrix/client/v3/sync', 'sync'],
    // The method does not exist: whoever has the path answers which do.
    ['DELETE', '/_matrix/client/v3/sync', 'sync'],
    ['POST', '/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?pos=1', 'sync'],
    ['GET', '/_matrix/client/v3/events', 'sync'],
    ['GET', '/_matrix/client/v3/events/%24id', 'client'],
    ['GET', '/_matrix/client/v3/rooms/!a:b/initialSync', 'client'],
    // An encoded slash is no slash.
    ['GET', '/_matrix/client/v3%2Fsync', 'client'],
    ['GET', '/_matrix/client/v3/s%79nc', 'sync'],
    ['GET', '/_matrix/client/v3/sync/', 'client'],
    ['GET', '/_matrix/client/unstable/whatever', 'client'],
    ['GET', '/_matrix/client/unstable/org.matrix.msc3916/media/config', 'media'],
    ['GET', '/_matrix/client/v1/media/later', 'media'],
    ['POST', '/_matrix/media/r0/upload', 'media'],
    ['GET', '/_matrix/federation/unstable/org.matrix.msc3916.v2/media/download/x', 'media'],
    ['GET', '/_matrix/federation/unstable/whatever', 'federation'],
    ['GET', '/_matrix/key/v2/server/ed25519:1', 'federation'],
    ['POST', '/_synapse/client/oidc/callback', 'client'],
    ['GET', '/_synapse/admin/v2/users?from=0', 'client'],
    ['GET', '/.well-known/matrix/server', 'federation'],
    ['GET', '/.well-known/matrix/client', 'client'],
    ['GET', '/_matrix/client/v3/%zz', 'client'],
  ])('%s %s → %s', (method, target, role) => expect(roleOf(method, target)?.role).toBe(role))

  test.each([
    '/metrics',
    '/health',
    '/ready',
    '/commands/sendEvent',
    '/',
    '/_matrixx/client/versions',
    '/_synapse/metrics',
    '//_matrix/client/versions',
  ])('nobody outside reaches %s', (target) => expect(roleOf('GET', target)).toBeUndefined())

  test('a room is known by its id, however it is encoded', () => {
    const rooms = ['!a:b', '!a%3Ab', '%21a%3ab'].map(
      (room) => roleOf('PUT', `/_matrix/client/v3/rooms/${room}/send/m.room.message/1`)?.room,
    )
    expect(rooms).toEqual(['!a:b', '!a:b', '!a:b'])
    expect(roleOf('PUT', '/_matrix/client/v3/user/@u:b/rooms/!a:b/account_data/t')?.room).toBe('!a:b')
  })

  test('the prefixes are in an order in which each can be reached', () => {
    prefixes.forEach(({ prefix }, i) => {
      expect(prefixes.findIndex((other) => prefix.startsWith(other.prefix))).toBe(i)
    })
  })
})

test.each([
  ['GET', '/_matrix/client/v3/sync', true],
  ['PUT', '/_matrix/client/v3/rooms/!a:b/send/m.room.message/1?x', true],
  ['PUT', '/_matrix/client/r0/rooms/!a:b/send/m.room.message/1', true],
  ['PUT', '/_matrix/federation/v1/send/1', true],
  ['POST', '/_matrix/client/v3/createRoom', false],
  ['POST', '/_matrix/client/v3/register', false],
  ['POST', '/_matrix/client/v3/keys/claim', false],
  ['PUT', '/_matrix/client/v3/directory/room/%23a:b', false],
  ['PUT', '/_matrix/client/v3/rooms/!a:b/state/m.room.name', false],
])('%s %s may be repeated: %s', (method, target, expected) => expect(isRepeatable(method, target)).toBe(expected))
