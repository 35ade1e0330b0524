import type { User } from '../environment.ts'
import { drive } from '../measure.ts'
import { check, createRoom, join, measured, type Scenario, sync } from '../scenario.ts'
import { insertUsers } from '../seed.ts'

const members = 10_000
const events = 40
const counted = 10
const v3 = '/_matrix/client/v3'

interface Counts {
  readonly notification_count: number
  readonly highlight_count: number
}
interface Kind {
  /** Below `/pushrules/global/`, and what is put there; undefined: the defaults. */
  readonly rule?: (room: string, sender: string) => readonly [path: string, body: object]
  /** Of one event. */
  readonly notifies: boolean
  readonly highlights: boolean
}

const highlight = ['notify', { set_tweak: 'highlight' }]
/** How a tenth each of the members want to hear of an event; the others have the defaults. */
const kinds: readonly Kind[] = [
  { rule: (room) => [`room/${encodeURIComponent(room)}`, { actions: [] }], notifies: false, highlights: false },
  { rule: () => ['content/lunch', { pattern: 'lunch', actions: highlight }], notifies: true, highlights: true },
  { rule: () => ['content/dinner', { pattern: 'dinner', actions: highlight }], notifies: true, highlights: false },
  { rule: (_, from) => [`sender/${encodeURIComponent(from)}`, { actions: [] }], notifies: false, highlights: false },
  {
    rule: (room) => [
      'override/quiet',
      { conditions: [{ kind: 'event_match', key: 'room_id', pattern: room }], actions: [] },
    ],
    notifies: false,
    highlights: false,
  },
]
const plain: Kind = { notifies: true, highlights: false }
const mentioned: Kind = { notifies: true, highlights: true }

/** An event into a room of 10,000 members of this server with mixed push rules, which names one of them and holds a word that
 *  some watch for: when it is acknowledged, and when members' counts are right. */
export const crowd: Scenario = async (bench) => {
  const users = await insertUsers(bench, 'crowd', members, (i) => `Person ${i}`)
  const [owner] = users
  if (!owner) throw new Error('no users')
  const room = await createRoom(bench, owner)
  await drive(members - 1, 16, (i) => join(bench, users[i + 1] ?? owner, room))
  const named = members - 1
  const kindOf = (i: number) => (i === named ? mentioned : (kinds[i % 10] ?? plain))
  await drive(members - 1, 16, async (i) => {
    const { rule } = kindOf(i + 1)
    const user = users[i + 1]
    if (!rule || !user) return
    const [path, body] = rule(room, owner.id)
    await bench.http.json('PUT', `${v3}/pushrules/global/${path}`, user.token, body)
  })

  let sent = 0
  const event = async () => {
    const path = `${v3}/rooms/${encodeURIComponent(room)}/send/m.room.message/crowd${sent++}`
    const body = { msgtype: 'm.text', body: `lunch ${sent}`, 'm.mentions': { user_ids: [users[named]?.id] } }
    await bench.http.json('PUT', path, owner.token, body)
  }
  const filter = JSON.stringify({
    room: { timeline: { limit: 1 }, state: { lazy_load_members: true } },
    presence: { types: [] },
  })
  const checkCounts = async (i: number, since?: string) => {
    const user = users[i] as User
    const query = { filter, timeout: '0', set_presence: 'offline', ...(since === undefined ? {} : { since }) }
    const answer = await sync(bench, user, query)
    const { notifies, highlights } = kindOf(i)
    const counts = (answer.rooms?.join?.[room] as { unread_notifications?: Counts } | undefined)?.unread_notifications
    const right =
      counts?.notification_count === (notifies ? sent : 0) && counts.highlight_count === (highlights ? sent : 0)
    check(right, `after ${sent} events the counts of ${user.id} are ${JSON.stringify(counts)}`)
    return answer.next_batch
  }
  await drive(10, 1, event)
  const acknowledged = await measured(bench, `event into a room of ${members}`, () => drive(events, 1, event))

  // A hundred and one members: ten of each tenth, and whom the event names.
  const some = [...Array.from({ length: 100 }, (_, i) => 1 + i * 97), named]
  const since: string[] = []
  await drive(some.length, 8, async (i) => {
    since[i] = await checkCounts(some[i] ?? named)
  })
  const right = await measured(bench, `until the counts of ${some.length} of them are right`, () =>
    drive(counted, 1, async () => {
      await event()
      await drive(some.length, 8, async (i) => {
        since[i] = await checkCounts(some[i] ?? named, since[i])
      })
    }),
  )
  await drive(members - 1, 8, async (i) => void (await checkCounts(i + 1)))
  return [acknowledged, right]
}
