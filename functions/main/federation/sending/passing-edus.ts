/** Typing, receipts and presence of our users, for the servers that share a room with them. What is told here matters now or
 *  never: none of it is stored, and a server that does not answer gets none.
 *  https://spec.matrix.org/v1.19/server-server-api/#edus */
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../../../shared/clock.ts'
import { canonicalJsonLoose } from '../../../../shared/matrix/canonical-json.ts'
import { type RoomId, type ServerName, serverNameOf, type UserId } from '../../../../shared/matrix/ids.ts'
import type { JsonObject } from '../../../../shared/matrix/json-value.ts'
import type { Replication } from '../../../../shared/replication/replication.ts'
import type { MainSql } from '../../../../shared/storage/sql.ts'
import type { PresenceRow } from '../../../../shared/streams/presence.ts'
import type { ReceiptRow } from '../../../../shared/streams/receipts.ts'
import type { PassingEdu } from './destination.ts'

export interface PassingDeps {
  readonly sql: MainSql
  readonly replication: Pick<Replication, 'subscribe'>
  readonly clock: Clock
  readonly own: ServerName
  readonly pass: (server: ServerName, key: string, edu: PassingEdu) => void
  readonly onError: (error: unknown) => void
}

/** Rooms whose servers are remembered; and how many of what happens may wait for a look at the database. */
const roomsMax = 2_000
const waitingMax = 2_000

/** Who is online is told again before other servers take it for over, some each minute. */
const tellAgainMs = 25 * 60_000
const sweepMs = 60_000
const toldAgainMax = 1_000
/** Of one room, to a server that comes into it. */
const toldToNewMax = 200
/** Who came online last: so many are looked for among a room's members. */
const onlineMax = 1_000

interface Told {
  /** The servers of this room, or those that share any with this user. */
  readonly of: RoomId | UserId
  readonly key: string
  readonly edu: PassingEdu
}

export function startPassing(deps: PassingDeps): () => Promise<void> {
  const { sql, replication, clock, own, pass, onError } = deps
  const servers = new LRUCache<RoomId, readonly ServerName[]>({ maxSize: roomsMax, sizeCalculation: () => 1 })
  /** Our users who type, by room. */
  const typists = new Map<RoomId, ReadonlySet<UserId>>()
  /** Our users who are not offline, as they were told of last. */
  const online = new Map<UserId, { readonly row: PresenceRow; toldTs: number }>()
  /** Servers that came into a room. */
  let newcomers = new Map<string, { readonly server: ServerName; readonly room_id: RoomId }>()
  let waiting: Told[] = []
  let working: Promise<void> | undefined
  let closed = false
  let count = 0
  const isOurs = (user_id: UserId) => serverNameOf(user_id) === own

  function tell(of: RoomId | UserId, key: string, edu_type: string, content: JsonObject): void {
    // Of what matters now or never, none is better than all too late.
    if (waiting.length >= waitingMax) return
    waiting.push({ of, key, edu: eduOf(edu_type, content) })
    wake()
  }

  function eduOf(edu_type: string, content: JsonObject): PassingEdu {
    return { id: ++count, text: canonicalJsonLoose({ edu_type, content }) }
  }

  function wake(): void {
    if (closed) return
    working ??= work()
      .catch(onError)
      .finally(() => {
        working = undefined
        if (waiting.length + newcomers.size > 0) wake()
      })
  }

  function tellPresence({ row }: { readonly row: PresenceRow }, of: RoomId | UserId = row.user_id): void {
    tell(of, `presence ${row.user_id}`, 'm.presence', presenceContent(row, clock.now()))
  }

  async function work(): Promise<void> {
    while (waiting.length + newcomers.size > 0 && !closed) {
      await tellNewcomers()
      const told = waiting
      waiting = []
      if (told.length === 0) continue
      const names = [...new Set(told.map((one) => one.of))]
      const unknown = names.filter((name) => name.startsWith('!') && !servers.has(name as RoomId)) as RoomId[]
      const users = names.filter((name) => !name.startsWith('!')) as UserId[]
      const [, ofUsers] = await Promise.all([readRooms(unknown), serversOf(users)])
      for (const { of, key, edu } of told) {
        for (const server of ofUsers.get(of as UserId) ?? servers.get(of as RoomId) ?? []) pass(server, key, edu)
      }
    }
  }

  /** Who of the room is online, they have not been told. */
  async function tellNewcomers(): Promise<void> {
    const some = [...newcomers.values()]
    newcomers = new Map()
    if (some.length === 0 || online.size === 0) return
    const rooms = [...new Set(some.map((one) => one.room_id))]
    const rows = await sql<{ room_id: RoomId; user_id: UserId }[]>`
      select r.room_id, m.user_id from rooms r join memberships m on m.room_nid = r.room_nid
      where r.room_id = any(${sql.array(rooms, 25)}::text[]) and m.local and m.membership = 'join'
        and m.user_id = any(${sql.array([...online.keys()].slice(-onlineMax), 25)}::text[])`
    const members = Map.groupBy(rows, (row) => row.room_id)
    for (const { server, room_id } of some) {
      for (const { user_id } of (members.get(room_id) ?? []).slice(0, toldToNewMax)) {
        const known = online.get(user_id)
        if (known) pass(server, `presence ${user_id}`, eduOf('m.presence', presenceContent(known.row, clock.now())))
      }
    }
  }

  async function readRooms(rooms: readonly RoomId[]): Promise<void> {
    if (rooms.length === 0) return
    const rows = await sql<{ room_id: RoomId; server_name: ServerName }[]>`
      select r.room_id, s.server_name from rooms r join room_servers s on s.room_nid = r.room_nid and s.until is null
      where r.room_id = any(${sql.array([...rooms], 25)}::text[])`
    const found = Map.groupBy(rows, (row) => row.room_id)
    for (const room of rooms)
      servers.set(
        room,
        (found.get(room) ?? []).map((row) => row.server_name),
      )
  }

  async function serversOf(users: readonly UserId[]): Promise<Map<UserId, ServerName[]>> {
    if (users.length === 0) return new Map()
    const rows = await sql<{ user_id: UserId; server_name: ServerName }[]>`
      select distinct m.user_id, s.server_name from memberships m
      join room_servers s on s.room_nid = m.room_nid and s.until is null
      where m.user_id = any(${sql.array([...users], 25)}::text[]) and m.membership = 'join'`
    const found = new Map<UserId, ServerName[]>()
    for (const { user_id, server_name } of rows) {
      const known = found.get(user_id)
      if (known) known.push(server_name)
      else found.set(user_id, [server_name])
    }
    return found
  }

  const offs = [
    replication.subscribe('events', ({ rows }) => {
      // Who is in the room may have changed, and with it which servers are.
      for (const { member, room_id } of rows) {
        if (!member) continue
        if (!member.local) servers.delete(room_id)
        if (member.membership !== 'join' || member.prev_membership === 'join' || online.size === 0) continue
        if (member.local) {
          const known = online.get(member.user_id)
          if (known) tellPresence(known, room_id)
          continue
        }
        const server = serverNameOf(member.user_id)
        if (newcomers.size < waitingMax) newcomers.set(`${server} ${room_id}`, { server, room_id })
        wake()
      }
    }),
    replication.subscribe('invalidations', ({ rows }) => {
      for (const { cache, key } of rows) if (cache === 'room') servers.delete(key as RoomId)
    }),
    replication.subscribe('typing', ({ rows }) => {
      for (const { room_id, user_ids } of rows) {
        const now = new Set(user_ids.filter(isOurs))
        const before = typists.get(room_id) ?? new Set<UserId>()
        if (now.size === 0) typists.delete(room_id)
        else typists.set(room_id, now)
        const changed = [...now, ...before].filter((user_id) => now.has(user_id) !== before.has(user_id))
        for (const user_id of changed) {
          const content = { room_id, user_id, typing: now.has(user_id) }
          tell(room_id, `typing ${room_id} ${user_id}`, 'm.typing', content)
        }
      }
    }),
    replication.subscribe('receipts', ({ rows }) => {
      for (const row of rows) {
        if (row.receipt_type !== 'm.read' || !isOurs(row.user_id)) continue
        tell(row.room_id, `receipt ${row.room_id} ${row.user_id} ${row.thread_id}`, 'm.receipt', receiptContent(row))
      }
    }),
    replication.subscribe('presence', ({ rows }) => {
      for (const row of rows) {
        if (!isOurs(row.user_id)) continue
        const told = { row, toldTs: clock.now() }
        if (row.presence === 'offline') online.delete(row.user_id)
        else online.set(row.user_id, told)
        tellPresence(told)
      }
    }),
  ]

  let cancel = clock.after(sweepMs, sweep)
  function sweep(): void {
    let left = toldAgainMax
    const now = clock.now()
    for (const one of online.values()) {
      if (now - one.toldTs < tellAgainMs) continue
      if (left-- <= 0) break
      one.toldTs = now
      tellPresence(one)
    }
    cancel = clock.after(sweepMs, sweep)
  }
  return async () => {
    closed = true
    cancel()
    for (const off of offs) off()
    await working
  }
}

/** https://spec.matrix.org/v1.19/server-server-api/#receipts */
function receiptContent({ room_id, user_id, event_id, thread_id, ts }: ReceiptRow): JsonObject {
  const data = { ts, ...(thread_id === '' ? undefined : { thread_id }) }
  return { [room_id]: { 'm.read': { [user_id]: { data, event_ids: [event_id] } } } }
}

/** https://spec.matrix.org/v1.19/server-server-api/#presence */
function presenceContent(row: PresenceRow, now: number): JsonObject {
  const { user_id, presence, status_msg, last_active_ts, currently_active } = row
  return {
    push: [
      {
        user_id,
        presence,
        last_active_ago: Math.max(0, now - last_active_ts),
        currently_active,
        ...(status_msg === undefined ? undefined : { status_msg }),
      },
    ],
  }
}
