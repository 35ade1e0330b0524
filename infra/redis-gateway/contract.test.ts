/** The gateway by the SDK must do what every other Redis does. */
import type { AddressInfo } from 'node:net'
import { describe } from 'vitest'
import { silentLogger } from '../../shared/logging.ts'
import { openRedis, openTransport } from '../../shared/redis/connection.ts'
import { redisInstalled, startRedis } from '../../test/support/redis.ts'
import { redisContract } from '../../test/support/redis-contract.ts'
import { createGateway } from './gateway.ts'

describe.runIf(redisInstalled)('a real redis-server', () => {
  redisContract('the REST gateway', async () => {
    const server = await startRedis()
    const transport = openTransport({ url: server.url, log: silentLogger })
    const gateway = createGateway({ transport, tokens: ['a-token-for-tests'], log: silentLogger })
    await new Promise<void>((resolve) => gateway.server.listen(0, '127.0.0.1', resolve))
    const { port } = gateway.server.address() as AddressInfo
    return {
      open: () =>
        openRedis({ url: `http://127.0.0.1:${port}`, token: 'a-token-for-tests', log: { warn: () => undefined } }),
      async stop() {
        await gateway.close()
        await transport.close()
        await server.stop()
      },
    }
  })
})
