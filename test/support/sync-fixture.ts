/** A server's main as the sync role sees it: writes rows as a commit would, then publishes them. */
import { createSyncRole, type SyncRole } from '../../functions/sync/role.ts'
import type { SharedStates } from '../../functions/sync/sliding/connection-store.ts'
import { SlidingBody, SlidingQuery } from '../../functions/sync/sliding/request.ts'
import { fakeClock } from '../../shared/clock.ts'
import type { Config } from '../../shared/config/schema.ts'
import { LazyRequestInfo } from '../../shared/http/request-info.ts'
import type { RawJson } from '../../shared/http/route.ts'
import { parsePart } from '../../shared/http/validate.ts'
import type { DeviceId, EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import { createInProcessReplication } from '../../shared/replication/in-process.ts'
import type { StreamPosition } from '../../shared/streams/define.ts'
import type { EventRow } from '../../shared/streams/events.ts'
import type { ReceiptRow } from '../../shared/streams/receipts.ts'
import type { TestDatabase } from './database.ts'

export interface Sent {
  readonly room: RoomId
  readonly type: string
  readonly sender: UserId
  readonly content?: object
  readonly state_key?: string
  readonly push?: number
  readonly thread_root?: string
  readonly device_id?: string
  readonly txn_id?: string
  readonly relates_to?: { readonly event_id: string; readonly rel_type: string }
}

interface SlidingOptions {
  readonly device?: string
  readonly signal?: AbortSignal
  readonly at?: SyncRole
  readonly query?: Record<string, string>
}

interface FixtureRoom {
  readonly room_nid: number
  readonly state: Map<string, { nid: number; event_id: EventId; sender: UserId; content: string; membership?: string }>
}

export interface SyncAnswer {
  next_batch: string
  // biome-ignore lint/suspicious/noExplicitAny: a test reads the answer as a client would
  [key: string]: any
}

/** `shared`: what handlers share of connections of sliding sync. */
export async function syncFixture(
  database: TestDatabase,
  limits: Partial<Config['limits']> = {},
  shared?: SharedStates,
) {
  const clock = fakeClock()
  const { sql } = database
  const position = async (name: string) => {
    const [row] = await sql<{ position: number }[]>`select position from streams where name = ${name}`
    return (row?.position ?? 0) as StreamPosition
  }
  const stored = {
    events: await position('events'),
    receipts: await position('receipts'),
    account_data: await position('account_data'),
    invalidations: await position('invalidations'),
    device_lists: await position('device_lists'),
    key_counts: await position('key_counts'),
    to_device: await position('to_device'),
    thread_subscriptions: await position('thread_subscriptions'),
  }
  const replication = createInProcessReplication(stored, clock)
  const config = { limits: { sync_cache: 32 * 1024 ** 2, ...limits }, presence: { enabled: true } } as Config
  const errors: unknown[] = []
  let queries = 0
  const read = new Proxy(database.read, {
    apply(sql, self, args) {
      queries++
      return Reflect.apply(sql, self, args)
    },
  })
  const start = (): SyncRole =>
    createSyncRole({
      sql: read,
      replication,
      clock,
      config,
      onError: (error) => errors.push(error),
      ...(shared ? { shared } : {}),
    })
  let role = start()
  const rooms = new Map<RoomId, FixtureRoom>()
  const [highest] = await sql<{ nid: number }[]>`
    select greatest(1000, (select max(event_nid) from events), (select max(room_nid) from rooms)) as nid`
  let nid = highest?.nid ?? 1_000

  async function room(id: string): Promise<RoomId> {
    const room_id = id as RoomId
    const room_nid = ++nid
    await sql`insert into rooms (room_nid, room_id, room_version, creator, created_ts)
      values (${room_nid}, ${room_id}, '12', '@x:test', 0)`
    await sql`insert into room_summaries (room_nid) values (${room_nid})`
    rooms.set(room_id, { room_nid, state: new Map() })
    return room_id
  }

  function known(room_id: RoomId): FixtureRoom {
    const found = rooms.get(room_id)
    if (!found) throw new Error(`no room ${room_id}`)
    return found
  }

  async function send(sent: Sent): Promise<EventId> {
    const { room_nid, state } = known(sent.room)
    const event_nid = ++nid
    const event_id = `$e${event_nid}` as EventId
    const content = JSON.stringify(sent.content ?? {})
    const prev = replication.positions().events
    const at = (prev + 1) as StreamPosition
    const key = sent.state_key === undefined ? undefined : `${sent.type}\0${sent.state_key}`
    const replaced = key === undefined ? undefined : state.get(key)
    const membership = (sent.content as { membership?: string } | undefined)?.membership
    const isMember = sent.type === 'm.room.member' && sent.state_key !== undefined && membership !== undefined
    if (key)
      state.set(key, { nid: event_nid, event_id, sender: sent.sender, content, ...(membership ? { membership } : {}) })
    const count = (kind: string) =>
      [...state].filter(([k, v]) => k.startsWith('m.room.member\0') && v.membership === kind).length
    const row: EventRow = {
      position: at,
      event_nid,
      event_id,
      room_nid,
      room_id: sent.room,
      type: sent.type,
      sender: sent.sender,
      origin_server_ts: clock.now(),
      content,
      push: sent.push ?? 0,
      ...(sent.state_key === undefined ? {} : { state_key: sent.state_key }),
      ...(sent.thread_root === undefined ? {} : { thread_root: sent.thread_root }),
      ...(sent.device_id === undefined ? {} : { device_id: sent.device_id }),
      ...(sent.txn_id === undefined ? {} : { txn_id: sent.txn_id }),
      ...(sent.relates_to ? { relates_to: sent.relates_to.event_id, rel_type: sent.relates_to.rel_type } : {}),
      ...(replaced
        ? { replaces: { event_id: replaced.event_id, sender: replaced.sender, content: replaced.content } }
        : {}),
      ...(isMember
        ? {
            member: {
              user_id: sent.state_key as UserId,
              membership,
              ...(replaced?.membership ? { prev_membership: replaced.membership } : {}),
              local: true,
              joined_members: count('join'),
              invited_members: count('invite'),
            },
          }
        : {}),
    }
    await database.transaction(async (tx) => {
      await tx`update streams set position = ${at} where name = 'events'`
      await tx`insert into events (event_nid, event_id, room_nid, position, depth, type, state_key, sender,
          origin_server_ts, content, envelope, state_root, replaces_nid, thread_root, push, device_id, txn_id,
          relates_to, rel_type)
        values (${event_nid}, ${event_id}, ${room_nid}, ${at}, 1, ${sent.type}, ${sent.state_key ?? null}, ${sent.sender},
          ${row.origin_server_ts}, ${content}, '{}', 0, ${replaced?.nid ?? null}, ${sent.thread_root ?? null},
          ${row.push}, ${sent.device_id ?? 'D'}, ${sent.txn_id ?? null}, ${sent.relates_to?.event_id ?? null},
          ${sent.relates_to?.rel_type ?? null})`
      if (sent.state_key !== undefined) {
        await tx`insert into current_state (room_nid, type, state_key, event_nid)
          values (${room_nid}, ${sent.type}, ${sent.state_key}, ${event_nid})
          on conflict (room_nid, type, state_key) do update set event_nid = excluded.event_nid`
      }
      if (sent.type === 'm.room.name' && sent.state_key === '') {
        await tx`update room_summaries set name = ${(sent.content as { name: string }).name} where room_nid = ${room_nid}`
      }
      if (sent.type === 'm.room.create') {
        const { type } = (sent.content ?? {}) as { type?: string }
        await tx`update room_summaries set room_type = ${type ?? null} where room_nid = ${room_nid}`
      }
      if (sent.type === 'm.room.encryption') {
        await tx`update room_summaries set encryption = 'm.megolm.v1.aes-sha2' where room_nid = ${room_nid}`
      }
      if (sent.thread_root !== undefined) {
        await tx`insert into threads (root_event_id, room_nid, latest_nid, latest_position, replies)
          values (${sent.thread_root}, ${room_nid}, ${event_nid}, ${at}, 1)
          on conflict (root_event_id, room_nid) do update set latest_nid = excluded.latest_nid,
            latest_position = excluded.latest_position, replies = threads.replies + 1`
      }
      if (row.member) {
        const { user_id, prev_membership, joined_members, invited_members } = row.member
        await tx`insert into memberships (user_id, room_nid, membership, event_nid, position, sender, local)
          values (${user_id}, ${room_nid}, ${membership ?? ''}, ${event_nid}, ${at}, ${sent.sender}, true)
          on conflict (user_id, room_nid) do update set membership = excluded.membership,
            event_nid = excluded.event_nid, position = excluded.position, sender = excluded.sender`
        await tx`insert into membership_changes (user_id, position, room_nid, event_nid, membership, prev_membership)
          values (${user_id}, ${at}, ${room_nid}, ${event_nid}, ${membership ?? ''}, ${prev_membership ?? null})`
        await tx`update room_summaries set joined_members = ${joined_members}, invited_members = ${invited_members}
          where room_nid = ${room_nid}`
      }
    })
    replication.publish('events', { prev, position: at, rows: [row] })
    return event_id
  }

  /** Takes an event's content, as a redaction's commit does. */
  async function redact(event_id: EventId): Promise<void> {
    const prev = replication.positions().invalidations
    const at = (prev + 1) as StreamPosition
    await sql`update streams set position = ${at} where name = 'invalidations'`
    await sql`update events set content = '{}', push = 0 where event_id = ${event_id}`
    replication.publish('invalidations', {
      prev,
      position: at,
      rows: [{ position: at, cache: 'event', key: event_id }],
    })
  }

  async function receipt(given: {
    room: RoomId
    user: UserId
    event_id: EventId
    type?: 'm.read' | 'm.read.private'
    thread_id?: string
  }): Promise<void> {
    const { room_nid } = known(given.room)
    const [event] = await sql<{ position: number }[]>`select position from events where event_id = ${given.event_id}`
    const prev = replication.positions().receipts
    const at = (prev + 1) as StreamPosition
    const row: ReceiptRow = {
      position: at,
      room_nid,
      room_id: given.room,
      user_id: given.user,
      receipt_type: given.type ?? 'm.read',
      thread_id: given.thread_id ?? '',
      event_id: given.event_id,
      event_position: event?.position ?? 0,
      ts: clock.now(),
    }
    const { room_id: _, ...columns } = row
    await sql`update streams set position = ${at} where name = 'receipts'`
    await sql`insert into receipts ${sql(columns)} on conflict (user_id, room_nid, receipt_type, thread_id)
      do update set event_id = excluded.event_id, event_position = excluded.event_position, ts = excluded.ts,
        position = excluded.position`
    replication.publish('receipts', { prev, position: at, rows: [row] })
  }

  async function accountData(user_id: UserId, type: string, content: object, room_id?: RoomId): Promise<void> {
    const prev = replication.positions().account_data
    const at = (prev + 1) as StreamPosition
    const room_nid = room_id ? known(room_id).room_nid : 0
    const text = JSON.stringify(content)
    await sql`update streams set position = ${at} where name = 'account_data'`
    await sql`insert into account_data (user_id, room_nid, type, content, position)
      values (${user_id}, ${room_nid}, ${type}, ${text}, ${at})
      on conflict (user_id, room_nid, type) do update set content = excluded.content, position = excluded.position`
    const row = { position: at, user_id, room_nid, type, content: text, ...(room_id ? { room_id } : {}) }
    replication.publish('account_data', { prev, position: at, rows: [row] })
  }

  /** A message to a device, from somebody else. */
  async function toDevice(user_id: UserId, content: object, device = 'DEVICE'): Promise<void> {
    const device_id = device as DeviceId
    const prev = replication.positions().to_device
    const at = (prev + 1) as StreamPosition
    await sql`insert into users (user_id, created_ts) values (${user_id}, 0) on conflict do nothing`
    await sql`insert into devices (user_id, device_id, created_ts) values (${user_id}, ${device_id}, 0) on conflict do nothing`
    await sql`update streams set position = ${at} where name = 'to_device'`
    await sql`insert into to_device (user_id, device_id, position, sender, type, content)
      values (${user_id}, ${device_id}, ${at}, '@x:test', 'm.x', ${JSON.stringify(content)})`
    replication.publish('to_device', { prev, position: at, rows: [{ position: at, user_id, device_id }] })
  }

  async function sync(
    user: UserId,
    query: Record<string, string | boolean | number | undefined> = {},
    device = 'DEVICE',
    signal = new AbortController().signal,
  ): Promise<SyncAnswer> {
    return JSON.parse(await syncText(user, query, device, signal)) as SyncAnswer
  }

  async function syncText(
    user: UserId,
    query: Record<string, string | boolean | number | undefined> = {},
    device = 'DEVICE',
    signal = new AbortController().signal,
  ): Promise<string> {
    const [getSync] = role.routes
    const requester = { user_id: user, device_id: device as DeviceId, admin: false, guest: false, token_hash: '' }
    const request = new LazyRequestInfo(new Request('http://hs1/', { signal }), undefined, () => '', '')
    const input = { params: undefined, query, body: undefined, user: requester, request }
    const reply = (await getSync.handle(input as never, role.deps)) as RawJson
    let text = ''
    for await (const piece of reply.pieces) text += piece
    return text
  }

  /** POST of sliding sync, at the handler that the fixture has now, or at another one. */
  async function sliding(
    user: UserId,
    body: object,
    { device = 'DEVICE', signal = new AbortController().signal, at = role, query = {} }: SlidingOptions = {},
  ): Promise<SyncAnswer> {
    const [, postSlidingSync] = at.routes
    const requester = { user_id: user, device_id: device as DeviceId, admin: false, guest: false, token_hash: '' }
    const request = new LazyRequestInfo(new Request('http://hs1/', { signal }), undefined, () => '', '')
    const parsed = { query: parsePart(SlidingQuery, query, 'query'), body: parsePart(SlidingBody, body, 'body') }
    const input = { params: undefined, ...parsed, user: requester, request }
    const reply = (await postSlidingSync.handle(input as never, at.deps)) as RawJson
    let text = ''
    for await (const piece of reply.pieces) text += piece
    return JSON.parse(text) as SyncAnswer
  }

  const member = (room_id: RoomId, user: UserId, membership: string, sender: UserId = user) =>
    send({ room: room_id, type: 'm.room.member', state_key: user, sender, content: { membership } })
  const message = (room_id: RoomId, sender: UserId, body: string, more: Partial<Sent> = {}) =>
    send({ room: room_id, type: 'm.room.message', sender, content: { body, msgtype: 'm.text' }, push: 1, ...more })

  return {
    clock,
    replication,
    errors,
    /** Queries and parts of queries that the role has made. */
    queries: () => queries,
    room,
    send,
    receipt,
    redact,
    accountData,
    toDevice,
    sync,
    syncText,
    sliding,
    /** Another handler beside the fixture's; close it. */
    start,
    member,
    message,
    role: () => role,
    stateOf: (room_id: RoomId) => known(room_id).state,
    /** Another process: nothing of what was in memory is left. */
    restart() {
      role.close()
      role = start()
    },
    close: () => role.close(),
  }
}
export type SyncFixture = Awaited<ReturnType<typeof syncFixture>>
