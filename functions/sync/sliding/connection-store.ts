/** Where the states of connections are: in this process, and, where roles run apart, in Redis, so that any handler goes on
 *  with any connection. A state is found by its contents' name, so what is found is never out of date. Nothing is lost with
 *  one: its client begins anew. */
import { LRUCache } from 'lru-cache'
import * as v from 'valibot'
import type { Requester } from '../../../shared/auth/requester.ts'
import type { Clock } from '../../../shared/clock.ts'
import { cacheTally } from '../../../shared/metrics/tallies.ts'
import type { RedisConnection } from '../../../shared/redis/connection.ts'
import type { Keyspace } from '../../../shared/redis/keys.ts'
import type { Soon } from '../soon.ts'
import { type ConnectionState, nothingSent, parseConnectionState } from './connection-state.ts'

/** What this process keeps, in characters of what the states are stored as. */
const charactersMax = 64 * 1024 ** 2
const overhead = 500
/** A client that was away for longer begins anew. */
const livesS = 3 * 86_400
/** Of one connection: what the client came with, and what it may have been answered since. */
const statesPerConnection = 6
const connectionsPerDevice = 16

export interface ConnectionOwner {
  readonly requester: Requester
  /** See `connectionOwner`. */
  readonly owner: string
}

export interface ConnectionStore {
  /** Undefined: unknown. */
  load(owner: ConnectionOwner, id: string): Soon<ConnectionState | undefined>
  /** Must be waited for before the state is named to the client. `before`: the one that the client came with, and comes with
   *  again if the answer is lost. Never rejects. */
  save(owner: ConnectionOwner, state: ConnectionState, before: ConnectionState): Soon<void>
}

export interface SharedStates {
  readonly redis: RedisConnection
  readonly keys: Keyspace
}

export function connectionStore(deps: {
  readonly clock: Clock
  readonly shared?: SharedStates | undefined
}): ConnectionStore {
  const tally = cacheTally('sliding_connections')
  const held = new LRUCache<string, ConnectionState>({ maxSize: charactersMax })
  const hold = (owner: string, state: ConnectionState) =>
    held.set(`${owner} ${state.id}`, state, { size: state.text.length + overhead })
  const { shared } = deps
  return {
    load({ owner }, id) {
      if (id === nothingSent.id) return nothingSent
      const known = held.get(`${owner} ${id}`)
      if (known) tally.hits++
      else tally.misses++
      if (known || !shared) return known
      return readShared(shared, owner, id).then((state) => {
        if (state) hold(owner, state)
        return state
      })
    },
    save(owner, state, before) {
      // One that the client came with is where others find it. Any other is written, also where this process has had it before:
      // Redis may have let go of it since.
      if (state.id === nothingSent.id || state.id === before.id) return undefined
      hold(owner.owner, state)
      return shared && writeShared(shared, deps.clock, owner, { state, before })
    },
  }
}

const Read = v.tuple([v.array(v.string()), v.unknown()])

const entryOf = ({ id, text }: ConnectionState) => `${id} ${text}`

async function readShared(
  { redis, keys }: SharedStates,
  owner: string,
  id: string,
): Promise<ConnectionState | undefined> {
  const connection = keys.key('sliding', owner)
  try {
    const replies = await redis.client
      .pipeline()
      .lrange(connection, 0, statesPerConnection - 1)
      .expire(connection, livesS)
      .exec()
    const [states] = v.parse(Read, replies)
    const found = states.find((entry) => entry.startsWith(`${id} `))
    const state = found === undefined ? undefined : parseConnectionState(found.slice(id.length + 1))
    return state?.id === id ? state : undefined
  } catch {
    // Redis is away: the client begins anew, as it would if Redis had been emptied.
    return undefined
  }
}

const Written = v.tuple([v.unknown(), v.unknown(), v.unknown(), v.unknown(), v.unknown(), v.array(v.string())])

async function writeShared(
  { redis, keys }: SharedStates,
  clock: Clock,
  { requester, owner }: ConnectionOwner,
  { state, before }: { readonly state: ConnectionState; readonly before: ConnectionState },
): Promise<void> {
  const connection = keys.key('sliding', owner)
  const device = keys.key('sliding-of', requester.user_id, requester.device_id)
  try {
    const replies = await redis.client
      .pipeline()
      // However many answers are lost, where the client is stays.
      .lpush(connection, ...(before.id === nothingSent.id ? [] : [entryOf(before)]), entryOf(state))
      .ltrim(connection, 0, statesPerConnection - 1)
      .expire(connection, livesS)
      .zadd(device, { score: clock.now(), member: owner })
      .expire(device, livesS)
      .zrange(device, 0, -connectionsPerDevice - 1)
      .exec()
    const [, , , , , surplus] = v.parse(Written, replies)
    if (surplus.length === 0) return
    await redis.client
      .pipeline()
      .del(...surplus.map((gone) => keys.key('sliding', gone)))
      .zrem(device, ...surplus)
      .exec()
  } catch {
    // Redis is away: this process goes on with the connection, another one begins it anew.
  }
}
