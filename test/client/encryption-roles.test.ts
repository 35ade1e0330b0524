/** End-to-end encryption as clients do it, over roles as processes of their own: at each step all of them and Redis are killed
 *  at once, and start again together. */
import { afterAll, beforeAll, describe, test } from 'vitest'
import { testBundles } from '../support/bundles.ts'
import { type RedisServer, redisInstalled, startRedis } from '../support/redis.ts'
import { type TestRoles, testRoles } from '../support/roles.ts'
import { encryptionStory } from './encryption-story.ts'

describe.runIf(redisInstalled)('client-server-api/#end-to-end-encryption over roles', () => {
  let redis: RedisServer
  let roles: TestRoles
  let people = 0
  beforeAll(async () => {
    redis = await startRedis()
    roles = await testRoles({
      dist: await testBundles(),
      redisUrl: redis.url,
      mains: 2,
      handlers: { client: 2, sync: 2 },
    })
  })
  afterAll(async () => {
    await roles?.close()
    await redis?.stop()
  })

  async function restart(): Promise<void> {
    await Promise.all([redis.kill(), ...roles.processes.map((one) => one.kill())])
    await redis.start()
    await Promise.all(roles.processes.map((one) => one.start()))
  }

  test.each(['sync', 'sliding sync'] as const)(
    'by %s: two users and their devices, through kills of everything',
    { timeout: 240_000 },
    (by) =>
      encryptionStory({ baseUrl: roles.url, register: (name) => roles.register(`${name}${++people}`), restart }, by),
  )
})
