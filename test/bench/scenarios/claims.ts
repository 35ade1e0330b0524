import { olmDevice } from '../../support/olm-keys.ts'
import { drive } from '../measure.ts'
import { check, measured, type Scenario } from '../scenario.ts'
import { insertUsers, seededDevice } from '../seed.ts'

const devices = 60
const keysEach = 200
const warmUp = 1_000
const atOnce = 50
const v3 = '/_matrix/client/v3'

interface Claimed {
  readonly one_time_keys: Record<string, Record<string, Record<string, object>>>
}

/** One-time keys claimed one a request, fifty at a time: each goes out once, until there are none. */
export const claims: Scenario = async (bench) => {
  const users = await insertUsers(bench, 'claimed', devices)
  await drive(devices, 4, async (i) => {
    const user = users[i]
    if (!user) return
    const ids = Array.from({ length: keysEach }, (_, key) => `K${key}`)
    const one_time_keys = olmDevice({ user_id: user.id, device_id: seededDevice }).oneTimeKeys(...ids)
    await bench.http.json('POST', `${v3}/keys/upload`, user.token, { one_time_keys })
  })
  const given = new Set<string>()
  const claim = async (i: number) => {
    const [owner, asker] = [users[i % devices], users[(i + 1) % devices]]
    if (!owner || !asker) throw new Error('no users')
    const body = { one_time_keys: { [owner.id]: { [seededDevice]: 'signed_curve25519' } } }
    const { one_time_keys } = await bench.http.json<Claimed>('POST', `${v3}/keys/claim`, asker.token, body)
    const [key] = Object.keys(one_time_keys[owner.id]?.[seededDevice] ?? {})
    check(key !== undefined, 'a claim without a key')
    given.add(`${owner.id} ${key}`)
  }
  // Warm up: the first requests compile code and fill caches.
  await drive(warmUp, atOnce, claim)
  const all = devices * keysEach
  const claimed = await measured(bench, `one-time keys claimed, ${atOnce} at a time`, () =>
    drive(all - warmUp, atOnce, (i) => claim(warmUp + i)),
  )
  check(given.size === all, `${given.size} of ${all} keys were given out`)
  const [left] = await bench.sql<{ count: number }[]>`select count(*)::bigint as count from one_time_keys`
  check(left?.count === 0, `${left?.count} keys are left`)
  return [claimed]
}
