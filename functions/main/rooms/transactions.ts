/** Clients' transactions: the same request of the same device twice has one effect.
 *  https://spec.matrix.org/v1.19/client-server-api/#transaction-identifiers
 *  What a device sent is read once and kept up from there, so that a send asks nothing of the database; beyond the bound
 *  the commit itself refuses a key that is there. */
import { createHash } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { entriesUpTo } from '../../../shared/lru-bound.ts'
import type { DeviceId, UserId } from '../../../shared/matrix/ids.ts'
import type { MainSql } from '../../../shared/storage/sql.ts'
import { pgText } from '../../../shared/storage/sql.ts'
import { isRetriedCall } from '../command-call.ts'
import { isRepeatedKey } from '../persist/committer.ts'
import type { Writes } from '../persist/writes.ts'

const devicesMax = 20_000
const keysPerDeviceMax = 500
const nameMax = 255

export interface Transactions {
  /** Runs `effect` once a key. `record(response)` are the writes that must join the effect's commit. */
  once<T extends object>(
    by: { readonly user_id: UserId; readonly device_id?: DeviceId | undefined },
    key: string,
    effect: (record: (response: T) => Writes) => Promise<T>,
  ): Promise<T>
  /** Another process may have recorded keys of what this one answers for now: they are read anew. */
  forget(): void
}

export function createTransactions(sql: MainSql): Transactions {
  const devices = new LRUCache<string, Promise<Map<string, string>>>({ ...entriesUpTo(devicesMax) })
  const underWay = new Map<string, Promise<object>>()

  function keysOf(scope: string): Promise<Map<string, string>> {
    let keys = devices.get(scope)
    if (!keys) {
      keys = loadKeys(scope)
      devices.set(scope, keys)
      keys.catch(() => devices.delete(scope))
    }
    return keys
  }
  async function loadKeys(scope: string): Promise<Map<string, string>> {
    const rows = await sql<{ key: string; response: string }[]>`
      select key, response from idempotency where scope = ${pgText(scope)}
      order by created_ts desc limit ${keysPerDeviceMax}`
    return new Map(rows.reverse().map((row) => [row.key, row.response]))
  }

  async function recorded(scope: string, key: string): Promise<string | undefined> {
    const [row] = await sql<{ response: string }[]>`
      select response from idempotency where scope = ${pgText(scope)} and key = ${key}`
    return row?.response
  }

  return {
    forget: () => devices.clear(),
    async once<T extends object>(
      by: { readonly user_id: UserId; readonly device_id?: DeviceId | undefined },
      requestKey: string,
      effect: (record: (response: T) => Writes) => Promise<T>,
    ): Promise<T> {
      const scope = short(`${by.user_id}\n${by.device_id ?? ''}`)
      const name = short(requestKey)
      const key = pgText(name)
      const keys = await keysOf(scope)
      // Another process may have answered the first sending of a command that is sent again.
      const known = keys.get(key) ?? (isRetriedCall() ? await recorded(scope, key) : undefined)
      if (known !== undefined) return JSON.parse(known) as T
      const place = `${scope}\n${key}`
      const running = underWay.get(place)
      if (running) return running as Promise<T>
      const mine = (async () => {
        try {
          const response = await effect((answer) => ({
            idempotency: { scope, key: name, response: JSON.stringify(answer) },
          }))
          keys.set(key, JSON.stringify(response))
          if (keys.size > keysPerDeviceMax) {
            const oldest = keys.keys().next().value
            if (oldest !== undefined) keys.delete(oldest)
          }
          return response
        } catch (error) {
          if (!isRepeatedKey(error)) throw error
          const response = await recorded(scope, key)
          if (response === undefined) throw error
          return JSON.parse(response) as T
        } finally {
          underWay.delete(place)
        }
      })()
      underWay.set(place, mine)
      return mine
    },
  }
}

/** What clients choose may be longer than an index entry. */
function short(name: string): string {
  return name.length <= nameMax ? name : createHash('sha256').update(name).digest('base64')
}
