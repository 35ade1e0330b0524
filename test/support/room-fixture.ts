/** Rooms in a test database, put there through main's own committer and state trees but without its rules: tests of
 *  readers say what happened, and may say what no server would allow. Routes are asked through the app, as `user`. */
import { Hono } from 'hono'
import * as v from 'valibot'
import type { ClientDeps } from '../../functions/client/deps.ts'
import { createCommitter, storedPositions } from '../../functions/main/persist/committer.ts'
import { createNids } from '../../functions/main/persist/nids.ts'
import { createStateTrees } from '../../functions/main/persist/state-trees.ts'
import type { EventWrite, Writes } from '../../functions/main/persist/writes.ts'
import { fakeClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import { RemoteError } from '../../shared/federation/federation-client.ts'
import { mount } from '../../shared/http/mount.ts'
import { createLimiter } from '../../shared/http/rate-limit.ts'
import { clientAddressBehind } from '../../shared/http/request-info.ts'
import type { Route } from '../../shared/http/route.ts'
import type { DeviceId, EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import { isJsonObject, type JsonObject } from '../../shared/matrix/json-value.ts'
import { createMemoryEphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import { createInProcessReplication } from '../../shared/replication/in-process.ts'
import type { TestDatabase } from './database.ts'

interface FixtureRoom {
  readonly room_nid: number
  readonly room_id: RoomId
  root: number | undefined
  depth: number
  readonly state: Map<string, { nid: number; event_id: EventId; sender: UserId; content: string }>
  readonly summary: { -readonly [K in keyof SummaryWrite]: SummaryWrite[K] }
}
type SummaryWrite = NonNullable<Writes['summaries']>[number]

export interface SendOptions {
  readonly state_key?: string
  readonly redacts?: EventId
  readonly txn_id?: string
  readonly device_id?: string
  readonly origin_server_ts?: number
}

export interface Answer {
  readonly status: number
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly body: any
}

export async function roomFixture(database: TestDatabase, routes: readonly Route<ClientDeps>[]) {
  const clock = fakeClock()
  const replication = createInProcessReplication(await storedPositions(database.sql), clock)
  const nids = createNids(database.sql)
  const trees = createStateTrees({ sql: database.sql, nids })
  const committer = createCommitter({
    sql: database.sql,
    publisher: replication,
    clock,
    onFatal: (error) => {
      throw error
    },
  })
  const rooms = new Map<RoomId, FixtureRoom>()
  let made = 0

  async function room(
    creator: UserId,
    { history_visibility, published = false }: { history_visibility?: string; published?: boolean } = {},
  ): Promise<RoomId> {
    const room_nid = await nids.next()
    const room_id = `!room${++made}:example.org` as RoomId
    const summary = { room_nid, joined_members: 0, invited_members: 0 }
    rooms.set(room_id, { room_nid, room_id, root: undefined, depth: 0, state: new Map(), summary })
    await committer.commit({
      rooms: [{ room_nid, room_id, room_version: '11', creator, created_ts: clock.now(), published }],
    })
    await send(room_id, creator, 'm.room.create', { room_version: '11' }, { state_key: '' })
    await member(room_id, creator, 'join')
    if (history_visibility)
      await send(room_id, creator, 'm.room.history_visibility', { history_visibility }, { state_key: '' })
    return room_id
  }

  function member(room_id: RoomId, user: UserId, membership: string, sender = user): Promise<EventId> {
    return send(room_id, sender, 'm.room.member', { membership }, { state_key: user })
  }

  async function send(
    room_id: RoomId,
    sender: UserId,
    type: string,
    content: JsonObject,
    options: SendOptions = {},
  ): Promise<EventId> {
    const [id] = await sendMany(room_id, [{ sender, type, content, options }])
    if (!id) throw new Error('nothing was sent')
    return id
  }

  async function sendMany(
    room_id: RoomId,
    drafts: readonly { sender: UserId; type: string; content: JsonObject; options?: SendOptions }[],
  ): Promise<EventId[]> {
    const here = rooms.get(room_id)
    if (!here) throw new Error(`no room ${room_id}`)
    const parts: Writes[] = []
    const ids: EventId[] = []
    for (const { sender, type, content, options = {} } of drafts) {
      const event_nid = await nids.next()
      const event_id = `$event${++made}` as EventId
      ids.push(event_id)
      parts.push(await one(here, { event_nid, event_id, sender, type, content, options }))
    }
    await committer.commit({
      events: parts.flatMap((part) => part.events ?? []),
      heads: parts.flatMap((part) => part.heads ?? []),
      summaries: [here.summary],
      state: {
        nodes: parts.flatMap((part) => part.state?.nodes ?? []),
        roots: parts.flatMap((part) => part.state?.roots ?? []),
      },
      redactions: parts.flatMap((part) => part.redactions ?? []),
    })
    return ids
  }

  async function one(
    here: FixtureRoom,
    event: {
      event_nid: number
      event_id: EventId
      sender: UserId
      type: string
      content: JsonObject
      options: SendOptions
    },
  ): Promise<Writes> {
    const { event_nid, event_id, sender, type, content, options } = event
    const { state_key, redacts, txn_id, device_id } = options
    const text = JSON.stringify(content)
    const key = `${type}\0${state_key}`
    const before = state_key === undefined ? undefined : here.state.get(key)
    let state: Writes['state']
    if (state_key !== undefined) {
      const { root_id, writes } = await trees.apply(here.root, here.room_nid, [{ type, state_key, event_nid }])
      here.root = root_id
      state = writes
      here.state.set(key, { nid: event_nid, event_id, sender, content: text })
      summarise(here, type, state_key, content, before?.content)
    }
    if (here.root === undefined) throw new Error('a room begins with its create event')
    const relation = content['m.relates_to']
    const relates = isJsonObject(relation) && typeof relation.event_id === 'string' ? relation : undefined
    const membership = type === 'm.room.member' ? String(content.membership) : undefined
    const write: EventWrite = {
      row: {
        event_nid,
        event_id,
        room_nid: here.room_nid,
        room_id: here.room_id,
        type,
        sender,
        origin_server_ts: options.origin_server_ts ?? clock.now(),
        content: text,
        push: 0,
        ...(state_key === undefined ? {} : { state_key }),
        ...(before ? { replaces: { event_id: before.event_id, sender: before.sender, content: before.content } } : {}),
        ...(redacts ? { redacts } : {}),
        ...(txn_id ? { txn_id } : {}),
        ...(device_id ? { device_id } : {}),
        ...(relates ? { relates_to: String(relates.event_id), rel_type: String(relates.rel_type) } : {}),
        ...(relates?.rel_type === 'm.thread' ? { thread_root: String(relates.event_id) } : {}),
        ...(membership && state_key
          ? {
              member: {
                user_id: state_key as UserId,
                membership,
                local: true,
                joined_members: here.summary.joined_members,
                invited_members: here.summary.invited_members,
                ...(before ? { prev_membership: String(JSON.parse(before.content).membership) } : {}),
              },
            }
          : {}),
      },
      envelope: '{}',
      depth: ++here.depth,
      state_root: here.root,
      flags: 0,
      visible: true,
      current_state: state_key !== undefined,
      ...(before ? { replaces_nid: before.nid } : {}),
    }
    const target = redacts ? await nidOf(redacts) : undefined
    return {
      events: [write],
      heads: [{ room_nid: here.room_nid, forward_extremities: [event_nid], state_root: here.root, depth: here.depth }],
      ...(state ? { state } : {}),
      ...(target === undefined
        ? {}
        : { redactions: [{ event_nid: target, content: '{}', envelope: '{}', redacted_by_nid: event_nid }] }),
    }
  }

  async function nidOf(event_id: EventId): Promise<number> {
    const [row] = await database.sql<{ event_nid: number }[]>`select event_nid from events where event_id = ${event_id}`
    if (!row) throw new Error(`no event ${event_id}`)
    return row.event_nid
  }

  const config = v.parse(Config, { server_name: 'example.org', rate_limits: { enabled: false } })
  const deps = {
    config,
    sql: database.read,
    replication,
    ephemeral: createMemoryEphemeralStore(),
    clock,
    main: {},
    // Nobody else is there.
    federation: {
      client: {
        json: async (server: string) => {
          throw new RemoteError('unreachable', `${server} has no address`)
        },
      },
    },
  } as unknown as ClientDeps
  const app = new Hono()
  mount(app, routes, {
    deps,
    authenticate: (token) => ({
      user_id: token as UserId,
      device_id: `D${token}` as DeviceId,
      admin: false,
      guest: false,
      locked: false,
      suspended: false,
      token_hash: token,
    }),
    limiter: createLimiter(config.rate_limits, clock),
    clientAddress: clientAddressBehind([]),
    log: { error: (...args: unknown[]) => console.error(...args) },
  })

  async function call(user: UserId | undefined, path: string, body?: JsonObject): Promise<Answer> {
    const response = await app.request(`/_matrix/client/${path}`, {
      method: body ? 'POST' : 'GET',
      ...(body ? { body: JSON.stringify(body) } : {}),
      headers: {
        ...(user ? { authorization: `Bearer ${user}` } : {}),
        ...(body ? { 'content-type': 'application/json' } : {}),
      },
    })
    return { status: response.status, body: await response.json() }
  }

  return {
    clock,
    deps,
    app,
    committer,
    replication,
    room,
    member,
    send,
    sendMany,
    call,
    message: (room_id: RoomId, sender: UserId, body: string, more: JsonObject = {}, options: SendOptions = {}) =>
      send(room_id, sender, 'm.room.message', { msgtype: 'm.text', body, ...more }, options),
    position: () => replication.positions().events,
    roomNid: (room_id: RoomId) => rooms.get(room_id)?.room_nid ?? 0,
    close: () => committer.close(),
  }
}
export type RoomFixture = Awaited<ReturnType<typeof roomFixture>>

function summarise(
  here: FixtureRoom,
  type: string,
  state_key: string,
  content: JsonObject,
  before: string | undefined,
) {
  const { summary } = here
  const text = (key: string) => String(content[key])
  if (type === 'm.room.member') {
    const was = before === undefined ? undefined : JSON.parse(before).membership
    const is = content.membership
    const step = (membership: string) => Number(is === membership) - Number(was === membership)
    summary.joined_members += step('join')
    summary.invited_members += step('invite')
  } else if (state_key === '') {
    if (type === 'm.room.name') summary.name = text('name')
    if (type === 'm.room.topic') summary.topic = text('topic')
    if (type === 'm.room.canonical_alias') summary.canonical_alias = text('alias')
    if (type === 'm.room.history_visibility') summary.history_visibility = text('history_visibility')
    if (type === 'm.room.join_rules') summary.join_rule = text('join_rule')
    if (type === 'm.room.guest_access') summary.guest_access = text('guest_access')
    if (type === 'm.room.create' && content.type !== undefined) summary.room_type = text('type')
  }
}
