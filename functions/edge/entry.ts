/** The edge as a process: `node functions/edge/entry.ts -c homeserver.yaml`. */
import { systemClock } from '../../shared/clock.ts'
import { ConfigError } from '../../shared/config/load.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { Logger } from '../../shared/logging.ts'
import { openRedis } from '../../shared/redis/connection.ts'
import { keyspace } from '../../shared/redis/keys.ts'
import { handlerDirectory } from '../../shared/role/handler-registry.ts'
import { observeProcess } from '../../shared/role/observed.ts'
import { type Running, runProcess } from '../../shared/role/run-process.ts'
import { followHandlers, rolesToDiscover } from './discovery.ts'
import { createEdge } from './edge.ts'

/** Proxies in front ask once a second or so who is ready, and believe the second answer or the third. */
const lastAnswersMs = 5_000

async function start(config: Config, log: Logger): Promise<Running> {
  const unknown = rolesToDiscover(config)
  const { url, token, tls_ca_path: caPath } = config.redis
  if (unknown.length > 0 && url === undefined) {
    throw new ConfigError([
      `the edge does not know where the handlers of ${unknown.join(', ')} are: set redis.url, where they announce themselves, or edge.upstreams`,
    ])
  }
  const observed = await observeProcess({ config, role: 'edge', writes: false, clock: systemClock, log })
  const { observe, tracer } = observed
  const edge = await createEdge(config, log, { lastAnswersMs, observe, tracer })
  const follow = url === undefined ? undefined : followThroughRedis(url)
  return {
    addresses: edge.addresses,
    async close() {
      await edge.close()
      await follow?.()
      await observed.close()
    },
  }

  function followThroughRedis(redisUrl: string): () => Promise<void> {
    const redis = openRedis({ url: redisUrl, token, caPath, log })
    const keys = keyspace(config.redis.prefix)
    const directory = handlerDirectory({ redis, keys, clock: systemClock })
    const unfollow = followHandlers({ edge, directory, roles: unknown, clock: systemClock, log })
    const unreport = observed.report({ redis, keys }, edge.addresses[0])
    return async () => {
      unfollow()
      await unreport()
      await redis.close()
    }
  }
}

await runProcess('edge', start)
