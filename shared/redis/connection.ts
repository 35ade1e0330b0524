/** Redis, whichever kind it is: one URL, one client API. What lies in Redis is a hint, a cache or a message; the record of
 *  everything is PostgreSQL. */
import { readFileSync } from 'node:fs'
import type { Redis } from '@upstash/redis'
import type { Logger } from '../logging.ts'
import type { Commander, PubSub, SubscriptionHandlers } from './commander.ts'
import { openLink } from './link.ts'
import { commanderRequester, sdkClient } from './requester.ts'
import type { NodeTarget } from './session.ts'
import { singleCommander } from './single.ts'
import { openSubscriber } from './subscriber.ts'
import { parseRedisUrl, type RedisUrl } from './url.ts'

export interface RedisConnection {
  /** The SDK's client with automatic deserialisation off: every reply is text, a number, null or an array of these, whatever
   *  its type says (`hgetall` gives a flat array, scores are text); parse it by a schema. Commands are answered or rejected
   *  with RedisAwayError within 2 s, and never repeated. */
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

/** Connects at the first use and again for ever. Throws RedisUrlError for a URL that can't be used. */
export function openRedis({ url, caPath, log }: RedisOptions): RedisConnection {
  const where = parseRedisUrl(url)
  const ca = caPath === undefined ? undefined : readFileSync(caPath, 'utf8')
  switch (where.kind) {
    case 'node': {
      const target = nodeTarget(where, ca)
      const link = openLink({ target: () => target, log, name: 'commands' })
      return connectionOf(singleCommander(link), openSubscriber({ target: () => target, log, name: 'subscriptions' }))
    }
    default:
      throw new TypeError(`redis.url: ${where.kind} is not known here`)
  }
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

function connectionOf(commander: Commander, pubSub: PubSub): RedisConnection {
  return {
    client: sdkClient(commanderRequester(commander, pubSub)),
    subscribe: (channel, on) => pubSub.subscribe(channel, on),
    async close() {
      pubSub.close()
      await commander.close()
    },
  }
}
