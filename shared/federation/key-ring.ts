/** Keys of other servers, from wherever they are known, and else asked for: from the server itself, then from the notaries
 *  that are trusted. https://spec.matrix.org/v1.19/server-server-api/#retrieving-server-keys */
import type { KeyObject } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import * as v from 'valibot'
import type { Clock } from '../clock.ts'
import type { MainClient } from '../commands/registry.ts'
import { entriesUpTo } from '../lru-bound.ts'
import type { ServerName } from '../matrix/ids.ts'
import { type SigningKey, verifyKeyFromBase64 } from '../matrix/signatures.ts'
import { cacheTally } from '../metrics/tallies.ts'
import { cachedValue, type SharedCache } from '../replication/shared-cache.ts'
import { serverKeysOf } from '../storage/server-keys.ts'
import type { ReadSql } from '../storage/sql.ts'
import { type KeyDocument, ServerKey } from './key-document.ts'
import type { KeySource } from './key-source.ts'

export interface KeysWanted {
  readonly server_name: ServerName
  readonly key_ids: readonly string[]
  /** When they have to be valid; undefined: whenever they were, as events of the oldest room versions. */
  readonly validAt: number | undefined
}

/** What was there, by what was asked for. */
export interface KeysFound {
  /** undefined: not known, or not valid at that time. */
  key(server_name: ServerName, key_id: string, validAt: number | undefined): KeyObject | undefined
}

export interface KeyRing {
  /** Never rejects for a server that can't be asked: its keys are not known then. Rejects where the database does. */
  load(wanted: readonly KeysWanted[]): Promise<KeysFound>
  /** What these servers publish now, as far as they answer. Who was asked a short while ago is not asked again. */
  refresh(servers: readonly ServerName[]): Promise<KeyDocument[]>
}

type Keys = ReadonlyMap<string, ServerKey>

const serversMax = 10_000
const sharedKeys = v.array(ServerKey)
/** A server that gave no answer is not asked again for this long, and longer each time. */
const failureMs = { first: 30_000, most: 3_600_000 }
/** A server is asked for a key that it does not name no more often than this. */
const askAgainMs = 60_000

export interface KeyRingDeps {
  readonly server_name: ServerName
  readonly signingKeys: readonly SigningKey[]
  readonly sql: ReadSql
  readonly main: Pick<MainClient, 'storeServerKeys'>
  readonly source: KeySource
  readonly clock: Clock
  /** What handlers share, where roles run apart. */
  readonly cache?: SharedCache | undefined
  readonly onError: (error: unknown) => void
}

export function createKeyRing(deps: KeyRingDeps): KeyRing {
  const { server_name: own, sql, main, source, clock, cache, onError } = deps
  const known = new LRUCache<ServerName, Keys>(entriesUpTo(serversMax))
  const tally = cacheTally('server_keys')
  tally.size = () => known.size
  /** When a server may be asked next, and how often it failed in a row. */
  const asked = new LRUCache<ServerName, { readonly nextAt: number; readonly failures: number }>(
    entriesUpTo(serversMax),
  )
  const asking = new Map<ServerName, Promise<KeyDocument | undefined>>()
  const ownKeys: Keys = new Map(
    deps.signingKeys.map((key) => [
      key.keyId,
      {
        key_id: key.keyId,
        public_key: key.publicKeyBase64,
        valid_until_ts: Number.MAX_SAFE_INTEGER,
        expired_ts: null,
      },
    ]),
  )
  const keysOf = (server_name: ServerName): Keys | undefined => (server_name === own ? ownKeys : known.get(server_name))

  function lacks({ server_name, key_ids, validAt }: KeysWanted): boolean {
    const keys = keysOf(server_name)
    return key_ids.some((key_id) => {
      const key = keys?.get(key_id)
      // A key that has expired will not become valid later again.
      return !key || (key.expired_ts === null && validAt !== undefined && key.valid_until_ts < validAt)
    })
  }

  function remember(server_name: ServerName, keys: readonly ServerKey[]): void {
    known.set(
      server_name,
      new Map([...(known.get(server_name) ?? []), ...keys.map((key) => [key.key_id, key] as const)]),
    )
  }

  async function recall(servers: readonly ServerName[]): Promise<void> {
    const slots = await cache?.lookAll(servers.map((server) => ({ name: `server_keys:${server}`, marks: [] })))
    const unshared: { server: ServerName; put: (text: string) => void }[] = []
    servers.forEach((server, i) => {
      const slot = slots?.[i]
      const shared = cachedValue(slot, sharedKeys)
      if (shared) remember(server, shared)
      else unshared.push({ server, put: (text) => slot?.put(text) })
    })
    if (unshared.length === 0) return
    const stored = await serverKeysOf(
      sql,
      unshared.map(({ server }) => server),
    )
    for (const { server, put } of unshared) {
      const keys = stored.get(server)
      if (!keys) continue
      remember(server, keys)
      put(JSON.stringify(keys))
    }
  }

  /** What the server publishes now; undefined where nobody says, or where it was asked a short while ago. */
  function ask(server_name: ServerName): Promise<KeyDocument | undefined> {
    const under = asking.get(server_name)
    if (under) return under
    const before = asked.get(server_name)
    if (before && before.nextAt > clock.now()) return Promise.resolve(undefined)
    const mine = source
      .ask(server_name)
      .then((document) => {
        const failures = document ? 0 : (before?.failures ?? 0) + 1
        const pauseMs = document ? askAgainMs : Math.min(failureMs.first * 2 ** (failures - 1), failureMs.most)
        asked.set(server_name, { nextAt: clock.now() + pauseMs, failures })
        if (document) remember(server_name, document.keys)
        return document
      })
      .finally(() => asking.delete(server_name))
    asking.set(server_name, mine)
    return mine
  }

  async function refresh(servers: readonly ServerName[]): Promise<KeyDocument[]> {
    const documents = (await Promise.all(servers.map(ask))).filter((document) => document !== undefined)
    if (documents.length > 0) {
      // Whoever needs the keys has them in memory; the next process asks again where they could not be kept.
      await main.storeServerKeys({ servers: documents.map((one) => ({ ...one, keys: [...one.keys] })) }).catch(onError)
    }
    return documents
  }

  return {
    async load(wanted) {
      const others = wanted.filter(({ server_name }) => server_name !== own)
      const unknown = others.filter(lacks)
      tally.hits += others.length - unknown.length
      tally.misses += unknown.length
      if (unknown.length > 0) await recall([...new Set(unknown.map(({ server_name }) => server_name))])
      const missing = new Set(others.filter(lacks).map(({ server_name }) => server_name))
      await refresh([...missing])
      return {
        key(server_name, key_id, validAt) {
          const key = keysOf(server_name)?.get(key_id)
          if (!key) return undefined
          const until = key.expired_ts ?? key.valid_until_ts
          return validAt === undefined || validAt <= until ? verifyKeyFromBase64(key.public_key) : undefined
        },
      }
    },
    refresh: (servers) => refresh(servers.filter((server) => server !== own)),
  }
}
