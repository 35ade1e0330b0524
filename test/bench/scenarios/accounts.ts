import { olmDevice } from '../../support/olm-keys.ts'
import type { User } from '../environment.ts'
import { drive } from '../measure.ts'
import { check, createRoom, join, measured, registerMany, type Scenario, sync } from '../scenario.ts'

const rooms = 1_000
const logins = 30
const password = 'a long enough password'
const v3 = '/_matrix/client/v3'

interface Session {
  readonly user_id: string
  readonly device_id: string
  readonly access_token: string
}

/** A user in 1,000 rooms logs in, asks for their devices, and uploads the keys of the new one, of which somebody hears who is in
 *  all these rooms too. Password hashes cost about a millisecond here (`bcrypt_rounds: 4`). */
export const accounts: Scenario = async (bench) => {
  const [neighbour] = await registerMany(bench, 'neighbour', 1)
  if (!neighbour) throw new Error('no user')
  const made = await bench.http.json<Session>('POST', `${v3}/register`, undefined, {
    username: 'roomy',
    password,
    auth: { type: 'm.login.dummy' },
  })
  const user: User = { id: made.user_id, token: made.access_token }
  await drive(rooms, 8, async (i) => join(bench, neighbour, await createRoom(bench, user, { name: `Room ${i}` })))

  const sessions: Session[] = []
  const login = async () => {
    const identifier = { type: 'm.id.user', user: 'roomy' }
    sessions.push(
      await bench.http.json('POST', `${v3}/login`, undefined, { type: 'm.login.password', identifier, password }),
    )
  }
  const list = async (i: number) => {
    const { access_token, device_id } = sessions[i] ?? sessions[0] ?? made
    const { devices } = await bench.http.json<{ devices: Session[] }>('GET', `${v3}/devices`, access_token)
    check(
      devices.some((device) => device.device_id === device_id),
      'the new device is not in the list',
    )
  }
  let since = (await sync(bench, neighbour, { timeout: '0' })).next_batch
  const upload = async (i: number) => {
    const session = sessions[i]
    if (!session) throw new Error('no session')
    const { device_keys } = olmDevice(session)
    const heard = sync(bench, neighbour, { since, timeout: '30000' })
    await bench.http.json('POST', `${v3}/keys/upload`, session.access_token, { device_keys })
    const answer = (await heard) as Awaited<typeof heard> & { device_lists?: { changed?: string[] } }
    since = answer.next_batch
    check(answer.device_lists?.changed?.includes(user.id) === true, 'the neighbour did not hear of the new keys')
  }
  await drive(5, 1, login)
  await drive(5, 1, list)
  sessions.length = 0
  const each = `of a user in ${rooms} rooms`
  return [
    await measured(bench, `login ${each}`, () => drive(logins, 1, login)),
    await measured(bench, `devices ${each}`, () => drive(logins, 1, list)),
    await measured(bench, `keys of a new device ${each}, until a neighbour hears`, () => drive(logins, 1, upload)),
  ]
}
