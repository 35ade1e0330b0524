/** One contract, run against every kind of Redis. The gateway over REST has its own file beside it, as `shared` may not see it. */
import { describe } from 'vitest'
import { redisInstalled, startRedis } from '../../test/support/redis.ts'
import { redisContract } from '../../test/support/redis-contract.ts'
import { startCluster, startSentinels, startTlsRedis } from '../../test/support/redis-topologies.ts'
import { memoryRedis, openRedis } from './connection.ts'
import { memoryServer } from './memory.ts'

const log = { warn: () => undefined }

redisContract('memory', async () => {
  const server = memoryServer()
  return { open: () => memoryRedis({ server }), stop: async () => undefined }
})

describe.runIf(redisInstalled)('a real redis-server', () => {
  redisContract('TCP', async () => {
    const server = await startRedis()
    return { open: () => openRedis({ url: server.url, log }), stop: server.stop }
  })

  redisContract('TLS, with a password', async () => {
    const { url, caPath, stop } = await startTlsRedis('päss/word@:')
    return { open: () => openRedis({ url, caPath, log }), stop }
  })

  redisContract('Sentinel', async () => {
    const { url, stop } = await startSentinels()
    return { open: () => openRedis({ url, log }), stop }
  })

  redisContract('Cluster', async () => {
    const { url, stop } = await startCluster()
    return { open: () => openRedis({ url, log }), stop }
  })
})
