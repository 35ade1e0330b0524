/** Finds the next keys for claims. All claims that wait share one read, and the next read begins while those found are still
 *  being written: what was found is nobody else's until it is given back. The database has the last word: a key that is not
 *  there any more fails the write. */
import type { ClaimableKey, KeyClaim } from '../../../../shared/commands/keys.ts'
import type { DeviceId, UserId } from '../../../../shared/matrix/ids.ts'
import { outsideRequests } from '../../../../shared/request-context.ts'
import { fromPgText, type MainSql, pgText } from '../../../../shared/storage/sql.ts'

const claimsPerRead = 2_000
const text = 25

export interface FoundKey extends ClaimableKey {
  readonly user_id: UserId
  readonly device_id: DeviceId
  /** `one_time`: to be deleted as it is given out; `unused_fallback`: to be marked. */
  readonly kind: 'one_time' | 'unused_fallback' | 'used_fallback'
}

export interface ClaimStock {
  /** A key for each claim, in their order; undefined where there is none. To be given back when the write has ended. */
  take(claims: readonly KeyClaim[]): Promise<(FoundKey | undefined)[]>
  giveBack(keys: readonly (FoundKey | undefined)[]): void
}

interface Waiting {
  readonly claims: readonly KeyClaim[]
  resolve(keys: (FoundKey | undefined)[]): void
  reject(error: unknown): void
}

/** Claims on the keys of one algorithm of one device. */
interface Need {
  readonly claim: KeyClaim
  count: number
  /** What was read and not yet handed to a claim. */
  found: ClaimableKey[]
  fallback?: FoundKey
}

const placeOf = ({ user_id, device_id, algorithm }: KeyClaim) => `${user_id}\0${device_id}\0${algorithm}`

export function createClaimStock(sql: MainSql): ClaimStock {
  let waiting: Waiting[] = []
  let running = false
  /** Ids of keys that are being written, by device and algorithm. */
  const taken = new Map<string, Set<string>>()
  /** Given back while a read is under way, which may have seen them as they were before. */
  const returned: FoundKey[] = []

  async function run(): Promise<void> {
    running = true
    while (waiting.length > 0) {
      const batch = nextBatch()
      try {
        const needs = needsOf(batch)
        await find(needs)
        for (const { claims, resolve } of batch) resolve(claims.map((claim) => pick(needs, claim)))
      } catch (error) {
        for (const { reject } of batch) reject(error)
      }
      for (const key of returned.splice(0)) forget(key)
    }
    running = false
  }

  function nextBatch(): Waiting[] {
    let claims = 0
    let count = 0
    while (count < waiting.length && claims < claimsPerRead) claims += waiting[count++]?.claims.length ?? 0
    const batch = waiting.slice(0, count)
    waiting = waiting.slice(count)
    return batch
  }

  function needsOf(batch: readonly Waiting[]): Map<string, Need> {
    const needs = new Map<string, Need>()
    for (const claim of batch.flatMap(({ claims }) => claims)) {
      const place = placeOf(claim)
      const need = needs.get(place)
      if (need) need.count++
      else needs.set(place, { claim, count: 1, found: [] })
    }
    return needs
  }

  async function find(needs: ReadonlyMap<string, Need>): Promise<void> {
    const list = [...needs.values()]
    const wanted = list.map(({ claim, count }) => count + (taken.get(placeOf(claim))?.size ?? 0))
    const rows = await sql<{ n: number; key_id: string; key: string }[]>`
      select q.n, k.key_id, k.key
      from unnest(${places(list, 'user_id')}::text[], ${places(list, 'device_id')}::text[],
        ${places(list, 'algorithm')}::text[], ${sql.array(wanted, 20)}::bigint[])
        with ordinality as q(user_id, device_id, algorithm, wanted, n)
      cross join lateral (
        select key_id, key, place from one_time_keys
        where user_id = q.user_id and device_id = q.device_id and algorithm = q.algorithm
        order by place limit q.wanted
      ) k
      order by q.n, k.place`
    for (const { n, key_id, key } of rows) {
      const need = list[n - 1]
      if (!need) continue
      const id = fromPgText(key_id)
      if (taken.get(placeOf(need.claim))?.has(id)) continue
      need.found.push({ algorithm: need.claim.algorithm, key_id: id, key })
    }
    await findFallbacks(list.filter(({ found, count }) => found.length < count))
  }

  async function findFallbacks(list: readonly Need[]): Promise<void> {
    if (list.length === 0) return
    const rows = await sql<{ n: number; key_id: string; key: string; used: boolean }[]>`
      select q.n, f.key_id, f.key, f.used
      from unnest(${places(list, 'user_id')}::text[], ${places(list, 'device_id')}::text[],
        ${places(list, 'algorithm')}::text[]) with ordinality as q(user_id, device_id, algorithm, n)
      join fallback_keys f on f.user_id = q.user_id and f.device_id = q.device_id and f.algorithm = q.algorithm`
    for (const { n, key_id, key, used } of rows) {
      const need = list[n - 1]
      if (!need) continue
      const kind = used ? 'used_fallback' : 'unused_fallback'
      need.fallback = { ...need.claim, key_id: fromPgText(key_id), key, kind }
    }
  }

  function places(list: readonly Need[], column: keyof KeyClaim) {
    return sql.array(
      list.map(({ claim }) => pgText(claim[column])),
      text,
    )
  }

  function pick(needs: ReadonlyMap<string, Need>, claim: KeyClaim): FoundKey | undefined {
    const place = placeOf(claim)
    const need = needs.get(place)
    const next = need?.found.shift()
    if (!next) return need?.fallback
    const ids = taken.get(place)
    if (ids) ids.add(next.key_id)
    else taken.set(place, new Set([next.key_id]))
    return { ...claim, ...next, kind: 'one_time' }
  }

  function forget(key: FoundKey): void {
    const ids = taken.get(placeOf(key))
    ids?.delete(key.key_id)
    if (ids?.size === 0) taken.delete(placeOf(key))
  }

  return {
    take(claims) {
      return new Promise((resolve, reject) => {
        waiting.push({ claims, resolve, reject })
        // Claims that arrive in this turn of the event loop share the read.
        if (!running) {
          running = true
          outsideRequests(() => setImmediate(run))
        }
      })
    },
    giveBack(keys) {
      for (const key of keys) {
        if (key?.kind !== 'one_time') continue
        if (running) returned.push(key)
        else forget(key)
      }
    },
  }
}
