/** Redis, whichever kind it is: one URL, one client API. What lies in Redis is a hint, a cache or a message; the record of
 *  everything is PostgreSQL. */
import { readFileSync } from 'node:fs'
import type { Redis } from '@upstash/redis'
import type { Clock } from '../clock.ts'
import type { Logger } from '../logging.ts'
import { openCluster } from './cluster.ts'
import type { Commander, PubSub, SubscriptionHandlers } from './commander.ts'
import { isHeartbeat } from './heartbeat.ts'
import { openLink } from './link.ts'
import { type MemoryServer, memoryServer } from './memory.ts'
import type { NodeTarget } from './node-client.ts'
import { commanderRequester, sdkClient } from './requester.ts'
import { restRedis } from './rest.ts'
import { sentinelFinder } from './sentinel.ts'
import { singleCommander } from './single.ts'
import { openSubscriber } from './subscriber.ts'
import { parseRedisUrl, type RedisUrl } from './url.ts'

export interface RedisConnection {
  /** The SDK's client with automatic deserialisation off: every reply is text, a number, null or an array of these, whatever
   *  its type says (`hgetall` gives a flat array, scores are text; `time()` outside of pipelines alone gives numbers); parse it
   *  by a schema. Commands are answered or rejected
   *  with RedisAwayError within about 2 s, and never repeated. Those of one turn of the event loop keep their order. */
  readonly client: Redis
  /** `up` after each (re)subscription took hold (messages may have been missed before), `down` when it is lost; it subscribes
   *  anew by itself. Messages are one line of text. Returns what ends it. */
  subscribe(channel: string, on: SubscriptionHandlers): () => void
  /** Ends all subscriptions and connections; commands under way are rejected. */
  close(): Promise<void>
}

export interface RedisOptions {
  /** See url.ts for all forms. */
  readonly url: string
  /** Of the REST interface. */
  readonly token?: string | undefined
  /** PEM file of the certificates that vouch for a server over TLS, beside Node's own. */
  readonly caPath?: string | undefined
  readonly log: Pick<Logger, 'warn'>
}

/** Below the SDK: what passes commands on as they are, such as the gateway. */
export interface RedisTransport {
  readonly commander: Commander
  readonly pubSub: PubSub
  close(): Promise<void>
}

/** Connects at the first use and again for ever. Throws RedisUrlError for a URL that can't be used. */
export function openRedis(options: RedisOptions): RedisConnection {
  const where = parseRedisUrl(options.url)
  return where.kind === 'rest' ? restRedis({ ...options, url: where.url }) : connectionOf(openTransport(options))
}

/** The same for everything but REST. */
export function openTransport({ url, caPath, log }: Omit<RedisOptions, 'token'>): RedisTransport {
  const where = parseRedisUrl(url)
  const ca = caPath === undefined ? undefined : readFileSync(caPath, 'utf8')
  switch (where.kind) {
    case 'node': {
      const target = nodeTarget(where, ca)
      const link = openLink({ target: () => target, log, name: 'commands' })
      return transport(singleCommander(link), openSubscriber({ target: () => target, log, name: 'subscriptions' }))
    }
    case 'sentinel': {
      const finder = sentinelFinder(where, { ca, log })
      const link = openLink({ target: finder.target, log, name: 'commands' })
      const subscriber = openSubscriber({ target: finder.target, log, name: 'subscriptions' })
      finder.watch(() => {
        link.reconnect('Sentinel names another master')
        subscriber.reconnect('Sentinel names another master')
      })
      return transport(singleCommander(link), subscriber, () => finder.close())
    }
    case 'cluster': {
      const cluster = openCluster(where, { ca, log })
      return transport(cluster.commander, openSubscriber({ target: cluster.anyNode, log, name: 'subscriptions' }))
    }
    case 'memory': {
      const { commander, pubSub } = memoryServer().connect()
      return transport(commander, pubSub)
    }
    case 'rest':
      throw new TypeError('a transport over REST takes no commands as they are')
  }
}

/** Of its own, or one of several that share a server. */
export function memoryRedis(
  options: { readonly clock?: Pick<Clock, 'now'>; readonly server?: MemoryServer } = {},
): RedisConnection {
  const { commander, pubSub } = (options.server ?? memoryServer(options.clock)).connect()
  return connectionOf(transport(commander, pubSub))
}

function nodeTarget(where: Extract<RedisUrl, { kind: 'node' }>, ca: string | undefined): NodeTarget {
  return {
    at: where.at,
    username: where.username,
    password: where.password,
    database: where.database,
    tls: where.tls ? { ca } : undefined,
  }
}

function transport(commander: Commander, pubSub: PubSub, alsoClose: () => void = () => undefined): RedisTransport {
  return {
    commander,
    pubSub,
    async close() {
      alsoClose()
      pubSub.close()
      await commander.close()
    },
  }
}

function connectionOf({ commander, pubSub, close }: RedisTransport): RedisConnection {
  return {
    client: sdkClient(commanderRequester(commander, pubSub)),
    subscribe: (channel, on) =>
      pubSub.subscribe(channel, {
        up: () => on.up(),
        down: () => on.down(),
        message(text) {
          if (!isHeartbeat(text)) on.message(text)
        },
      }),
    close,
  }
}
