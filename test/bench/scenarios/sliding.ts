import type { User } from '../environment.ts'
import { drive } from '../measure.ts'
import { check, createRoom, measured, registerMany, type Scenario, send } from '../scenario.ts'

const rooms = 1_500
const messages = 300
const connections = 500
const path = '/_matrix/client/unstable/org.matrix.simplified_msc3575/sync'

/** What current clients ask for of a room in their list. */
const requiredState = [
  ...['name', 'topic', 'avatar', 'canonical_alias', 'encryption', 'power_levels', 'join_rules', 'tombstone', 'create']
    .map((name) => `m.room.${name}`)
    .map((type) => [type, '']),
  ['m.room.member', '$LAZY'],
  ['m.room.member', '$ME'],
]
const extensions = {
  to_device: { enabled: true },
  e2ee: { enabled: true },
  account_data: { enabled: true },
  receipts: { enabled: true, rooms: ['*'] },
  typing: { enabled: true },
}
const bodyOf = (conn_id: string, last: number) => ({
  conn_id,
  lists: { all: { ranges: [[0, last]], timeline_limit: 1, required_state: requiredState } },
  extensions,
})

interface Answer {
  readonly pos: string
  readonly lists: { readonly all: { readonly count: number } }
  readonly rooms: Record<string, { readonly timeline?: readonly { readonly event_id: string }[] }>
}

/** Simplified sliding sync of an account of 1,500 rooms: its first answer, and what comes after; then 500 connections that post
 *  the same position at once, each with a window of its own. */
export const sliding: Scenario = async (bench) => {
  const [user] = await registerMany(bench, 'slider', 1)
  if (!user) throw new Error('no user')
  const made: string[] = []
  await drive(rooms, 8, async (i) => {
    made.push(await createRoom(bench, user, { name: `Room ${i}`, topic: `What room ${i} is about` }))
  })
  await drive(rooms * 2, 16, async (i) => {
    await send(bench, user, made[i % rooms] ?? '', `message ${i} with some words that make it as long as messages are`)
  })
  const ask = (of: User, body: object, pos?: string) =>
    bench.http.json<Answer>('POST', pos === undefined ? path : `${path}?pos=${encodeURIComponent(pos)}`, of.token, body)

  // A fresh process: what the first answer after a start costs.
  await bench.restart()
  const begin = (last: number) => async (i: number) => {
    const answer = await ask(user, bodyOf(`begin ${last} ${i}`, last))
    check(answer.lists.all.count === rooms, `a list of ${answer.lists.all.count} rooms`)
    const got = Object.values(answer.rooms)
    check(got.length === last + 1, `${got.length} rooms of ${last + 1}`)
    check(
      got.every(({ timeline }) => timeline?.length === 1),
      'a room without its newest event',
    )
  }
  const first = await measured(bench, `sliding sync of ${rooms} rooms, first answer`, () => drive(1, 1, begin(19)))
  const again = await measured(bench, `sliding sync of ${rooms} rooms, another connection`, () =>
    drive(20, 1, (i) => begin(19)(i + 1)),
  )
  const whole = await measured(bench, `sliding sync, all ${rooms} rooms in one answer`, () =>
    drive(3, 1, begin(rooms - 1)),
  )

  const body = bodyOf('list', 19)
  const { pos } = await ask(user, body)
  const quiet = async () => {
    const answer = await ask(user, body, pos)
    check(Object.keys(answer.rooms).length === 0, 'a room in an answer without news')
  }
  await drive(4_000, 16, quiet)
  const nothing = await measured(bench, 'sliding sync with nothing new', () => drive(20_000, 16, quiet), true)

  let at = pos
  const told = await measured(bench, 'sliding sync with a new message', async () => {
    const latenciesMs: number[] = []
    const startMs = performance.now()
    for (let i = 0; i < messages; i++) {
      const room = made[i % rooms] ?? ''
      const event_id = await send(bench, user, room, `news ${i}`)
      const beganMs = performance.now()
      const answer = await ask(user, body, at)
      latenciesMs.push(performance.now() - beganMs)
      at = answer.pos
      check(answer.rooms[room]?.timeline?.at(-1)?.event_id === event_id, 'the new message is not in the answer')
    }
    return { latenciesMs, elapsedMs: performance.now() - startMs }
  })

  const statuses = new Map<number, number>()
  const positions: string[] = []
  const together = await measured(bench, `${connections} connections with the same position at once`, () =>
    drive(connections, connections, async (i) => {
      const asked = bodyOf('list', 19 + (i % 50))
      const answer = await bench.http.request('POST', `${path}?pos=${encodeURIComponent(at)}`, user.token, asked)
      statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1)
      if (answer.status === 200) positions.push((JSON.parse(answer.body) as Answer).pos)
    }),
  )
  check(statuses.get(200) === connections, `answers by status: ${JSON.stringify([...statuses])}`)
  // Each of them goes on from its own answer, or begins anew: a connection keeps so many states.
  await drive(positions.length, 16, async (i) => {
    const position = encodeURIComponent(positions[i] ?? '')
    const { status } = await bench.http.request('POST', `${path}?pos=${position}`, user.token, bodyOf('list', 19))
    check(status === 200 || status === 400, `status ${status} for a position of that time`)
  })
  return [first, again, whole, nothing, told, together]
}
