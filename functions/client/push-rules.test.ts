import { Hono } from 'hono'
import * as v from 'valibot'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { systemClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import { mount } from '../../shared/http/mount.ts'
import { createLimiter } from '../../shared/http/rate-limit.ts'
import { clientAddressBehind } from '../../shared/http/request-info.ts'
import { DeviceId, type UserId } from '../../shared/matrix/ids.ts'
import { unreadCounts } from '../../shared/storage/unread.ts'
import type { AccountDataRow } from '../../shared/streams/account-data.ts'
import { type TestMain, testMain } from '../../test/support/main.ts'
import type { ClientDeps } from './deps.ts'
import { pushRuleRoutes } from './push-rules.ts'

let main: TestMain
const app = new Hono()
const rows: AccountDataRow[] = []
beforeAll(async () => {
  main = await testMain()
  main.replication.subscribe('account_data', (update) => rows.push(...update.rows))
  const config = v.parse(Config, { server_name: 'hs1' })
  // The routes use nothing else.
  const deps = { sql: main.database.read, main: main.commands } as ClientDeps
  mount(app, pushRuleRoutes, {
    deps,
    authenticate: (token) => ({
      user_id: token as UserId,
      device_id: v.parse(DeviceId, 'D'),
      admin: false,
      guest: false,
      locked: false,
      suspended: false,
      token_hash: token,
    }),
    limiter: { ...createLimiter(config.rate_limits, systemClock), take: () => {} },
    clientAddress: clientAddressBehind([]),
    log: {
      error(_, message) {
        throw new Error(message)
      },
    },
  })
})
afterAll(() => main.drop())

let users = 0
/** A client of a new user. */
function client() {
  const user = `@user${++users}:hs1`
  return {
    user,
    async call(method: string, path: string, body?: object) {
      const response = await app.request(`/_matrix/client/v3/pushrules/${path}`, {
        method,
        headers: { Authorization: `Bearer ${user}` },
        ...(body ? { body: JSON.stringify(body) } : {}),
      })
      const json = (await response.json()) as Record<string, unknown>
      return { status: response.status, ...json }
    },
    async ids(kind: string): Promise<string[]> {
      const { [kind]: rules } = (await this.call('GET', 'global/')) as unknown as Record<string, { rule_id: string }[]>
      return (rules ?? []).map((rule) => rule.rule_id).filter((id) => !id.startsWith('.') || id === '.m.rule.master')
    },
  }
}
const notify = { actions: ['notify'] }

describe('client-server-api/#push-rules-api', () => {
  test('who never changed a rule has the defaults', async () => {
    const alice = client()
    expect(await alice.call('GET', '')).toMatchObject({ status: 200, global: { room: [], sender: [] } })
    expect(await alice.call('GET', 'global/override/.m.rule.master')).toMatchObject({ enabled: false, default: true })
    expect(await alice.call('GET', 'global/override/.m.rule.invite_for_me')).toMatchObject({
      conditions: [{}, {}, { pattern: alice.user }],
    })
  })

  test('a rule that was put is there, told to clients, changed and gone again', async () => {
    const alice = client()
    const cake = { pattern: 'cake*lie', actions: ['notify', { set_tweak: 'sound', value: 'x' }] }
    expect(await alice.call('PUT', 'global/content/nocake', cake)).toEqual({ status: 200 })
    const rule = { rule_id: 'nocake', default: false, enabled: true, ...cake }
    expect(await alice.call('GET', 'global/content/nocake')).toEqual({ status: 200, ...rule })
    expect(JSON.parse(rows.at(-1)?.content ?? '')).toMatchObject({ global: { content: [rule, {}] } })
    expect(rows.at(-1)).toMatchObject({ user_id: alice.user, type: 'm.push_rules', room_nid: 0 })

    expect(await alice.call('PUT', 'global/content/nocake/enabled', { enabled: false })).toEqual({ status: 200 })
    expect(await alice.call('GET', 'global/content/nocake/enabled')).toEqual({ status: 200, enabled: false })
    expect(await alice.call('PUT', 'global/content/nocake/actions', { actions: ['dont_notify'] })).toEqual({
      status: 200,
    })
    expect(await alice.call('GET', 'global/content/nocake/actions')).toEqual({ status: 200, actions: ['dont_notify'] })
    // A new definition leaves it disabled.
    await alice.call('PUT', 'global/content/nocake', { pattern: 'pie', actions: [] })
    expect(await alice.call('GET', 'global/content/nocake')).toMatchObject({ pattern: 'pie', enabled: false })

    expect(await alice.call('DELETE', 'global/content/nocake')).toEqual({ status: 200 })
    expect(await alice.call('GET', 'global/content/nocake')).toMatchObject({ status: 404, errcode: 'M_NOT_FOUND' })
  })

  test('actions and the state of the server’s own rules can be changed, nothing else of them', async () => {
    const alice = client()
    const message = 'global/underride/.m.rule.message'
    await alice.call('PUT', `${message}/actions`, { actions: [] })
    await alice.call('PUT', `${message}/enabled`, { enabled: false })
    expect(await alice.call('GET', message)).toMatchObject({ default: true, enabled: false, actions: [] })
    expect(await alice.call('DELETE', message)).toMatchObject({ status: 403 })
    expect(await alice.call('PUT', message, notify)).toMatchObject({ status: 400, errcode: 'M_INVALID_PARAM' })
  })

  test('new rules come first among one’s own, or where they are placed', async () => {
    const alice = client()
    for (const id of ['a', 'b', 'c']) await alice.call('PUT', `global/override/${id}`, notify)
    expect(await alice.ids('override')).toEqual(['.m.rule.master', 'c', 'b', 'a'])
    await alice.call('PUT', 'global/override/d?before=b', notify)
    await alice.call('PUT', 'global/override/e?after=b', notify)
    expect(await alice.ids('override')).toEqual(['.m.rule.master', 'c', 'd', 'b', 'e', 'a'])
    await alice.call('PUT', 'global/override/a?before=c&after=e', notify)
    expect(await alice.ids('override')).toEqual(['.m.rule.master', 'a', 'c', 'd', 'b', 'e'])
    for (const anchor of ['before=nothing', 'after=.m.rule.master', 'before=.m.rule.reaction']) {
      expect(await alice.call('PUT', `global/override/f?${anchor}`, notify)).toMatchObject({
        status: 400,
        errcode: 'M_UNKNOWN',
      })
    }
  })

  test.each([
    ['PUT', 'global/override/.mine', notify, 400],
    ['PUT', 'global/override/a%2Fb', notify, 400],
    ['PUT', 'global/override/a%5Cb', notify, 400],
    ['PUT', 'global/elsewhere/a', notify, 400],
    ['PUT', 'global/content/a', notify, 400],
    ['PUT', 'global/content/a', { pattern: 1, actions: [] }, 400],
    ['PUT', 'global/override/a', {}, 400],
    ['PUT', 'global/override/a', { actions: [1] }, 400],
    ['PUT', 'global/override/a', { actions: [], conditions: ['x'] }, 400],
    ['PUT', 'global/override/none/enabled', { enabled: true }, 404],
    ['PUT', 'global/override/none/actions', notify, 404],
    ['DELETE', 'global/override/none', undefined, 404],
    ['GET', 'global/override/none/enabled', undefined, 404],
    ['GET', 'global/override/none/actions', undefined, 404],
  ])('%s %s %j: %d', async (method, path, body, status) =>
    expect(await client().call(method, path, body)).toMatchObject({ status }),
  )

  test('changes at the same time do not undo each other', async () => {
    const alice = client()
    const ids = Array.from({ length: 20 }, (_, i) => `r${i}`)
    await Promise.all(ids.map((id) => alice.call('PUT', `global/override/${id}`, notify)))
    expect((await alice.ids('override')).sort()).toEqual(['.m.rule.master', ...ids].sort())
  })

  test('users with the same rules are one class; with the defaults, again none', async () => {
    const [alice, bob, carol] = [client(), client(), client()]
    const { sql } = main.database
    const classOf = async (user: string) =>
      (await sql<{ class_id: number }[]>`select class_id from push_rules where user_id = ${user}`)[0]?.class_id
    const mention = (user: string) => ({
      conditions: [{ kind: 'event_match', key: 'content.body', pattern: user }],
      actions: ['notify'],
    })
    await alice.call('PUT', 'global/override/me', mention(alice.user))
    await bob.call('PUT', 'global/override/I', mention(bob.user))
    await carol.call('PUT', 'global/override/me', mention(alice.user))
    expect(await classOf(alice.user)).toBeGreaterThan(0)
    expect(await classOf(bob.user)).toBe(await classOf(alice.user))
    expect(await classOf(carol.user)).not.toBe(await classOf(alice.user))
    await bob.call('DELETE', 'global/override/I')
    expect(await classOf(bob.user)).toBe(0)
  })

  test('rules hold for events to come: what is unread counts as it did when it was sent', async () => {
    const [owner, reader, other] = [await main.user('owner'), await main.user('reader'), await main.user('other')]
    const { room_id } = await main.commands.createRoom({ user_id: owner, preset: 'public_chat' })
    for (const user_id of [reader, other]) {
      await main.commands.changeMembership({ room_id, user_id, target: user_id, action: 'join' })
    }
    const send = (body: string) =>
      main.commands.sendEvent({ room_id, user_id: owner, type: 'm.room.message', content: { msgtype: 'm.text', body } })
    const { sql } = main.database
    const counts = async (user_id: UserId) => {
      const [row] = await sql<{ class_id: number }[]>`select class_id from push_rules where user_id = ${user_id}`
      const [room] = await sql<{ room_nid: number }[]>`select room_nid from rooms where room_id = ${room_id}`
      const rooms = [{ room_nid: room?.room_nid ?? 0, joinedAt: 0 }]
      const [counted] = await unreadCounts(sql, { user_id, class_id: row?.class_id ?? 0 }, rooms, 1e15)
      return { notifications: counted?.notifications ?? 0, highlights: counted?.highlights ?? 0 }
    }
    const keyword = {
      kind: 'content',
      rule_id: 'cake',
      pattern: 'cake',
      actions: ['notify', { set_tweak: 'highlight' }],
    } as const
    await main.commands.putPushRule({ user_id: other, ...keyword, actions: [...keyword.actions] })
    await main.commands.putPushRule({ user_id: reader, kind: 'room', rule_id: room_id, actions: [] })
    await send('muted')
    expect(await counts(reader)).toEqual({ notifications: 0, highlights: 0 })
    await main.commands.putPushRule({ user_id: reader, kind: 'room', rule_id: '!elsewhere:hs1', actions: [] })
    expect(await counts(reader)).toEqual({ notifications: 0, highlights: 0 })
    await main.commands.deletePushRule({ user_id: reader, kind: 'room', rule_id: '!elsewhere:hs1' })
    await main.commands.deletePushRule({ user_id: reader, kind: 'room', rule_id: room_id })
    expect(await counts(reader)).toEqual({ notifications: 0, highlights: 0 })
    await send('a cake')
    expect(await counts(reader)).toEqual({ notifications: 1, highlights: 0 })
    expect(await counts(other)).toEqual({ notifications: 2, highlights: 1 })
    await main.commands.putPushRule({ user_id: reader, ...keyword, actions: [...keyword.actions] })
    expect(await counts(reader)).toEqual({ notifications: 1, highlights: 0 })
    await send('more cake')
    expect(await counts(reader)).toEqual({ notifications: 2, highlights: 1 })
    await main.commands.deletePushRule({ user_id: reader, kind: 'content', rule_id: 'cake' })
    expect(await counts(reader)).toEqual({ notifications: 2, highlights: 1 })
  })

  test('after an upgrade the new room has the old room’s rules', async () => {
    const alice = client()
    const [from, to] = ['!old:hs1', '!new:hs1'] as const
    await alice.call('PUT', `global/room/${from}`, { actions: ['dont_notify'] })
    await alice.call('PUT', `global/override/${from}`, {
      conditions: [{ kind: 'event_match', key: 'room_id', pattern: from }],
      actions: [],
    })
    const ids = { user_id: alice.user, from, to } as Parameters<typeof main.commands.copyRoomPushRules>[0]
    const before = rows.length
    await main.commands.copyRoomPushRules(ids)
    await main.commands.copyRoomPushRules(ids)
    expect(rows.length).toBe(before + 1)
    expect(await alice.ids('room')).toEqual([from, to])
    expect(await alice.call('GET', `global/room/${to}`)).toMatchObject({ actions: ['dont_notify'] })
    expect(await alice.call('GET', `global/override/${to}`)).toMatchObject({ conditions: [{ pattern: to }] })
  })

  // Last: the second main takes the writing from the first.
  test('classes that nobody is in are gone after a restart', async () => {
    const alice = client()
    const { sql } = main.database
    const classes = async () => (await sql`select from push_classes where class_id <> 0`).length
    await alice.call('PUT', 'global/override/x', notify)
    await alice.call('DELETE', 'global/override/x')
    const before = await classes()
    const again = await main.restarted()
    expect(await classes()).toBeLessThan(before)
    await again.close()
  })
})
