/** The account routes over a real Postgres, with the room engine as the test wants it. */
import { Hono } from 'hono'
import * as v from 'valibot'
import { accountRoutes } from '../../functions/client/accounts/routes.ts'
import type { ClientDeps } from '../../functions/client/deps.ts'
import { profileRoutes } from '../../functions/client/profile/profile.ts'
import { createDepartures } from '../../functions/main/background/departures.ts'
import { createAccounts } from '../../functions/main/commands/accounts/accounts.ts'
import type { AccountRooms } from '../../functions/main/commands/accounts/deps.ts'
import { createKeyedQueue } from '../../functions/main/keyed-queue.ts'
import { createCommitter, storedPositions } from '../../functions/main/persist/committer.ts'
import { fakeClock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import { Config } from '../../shared/config/schema.ts'
import { createFederation } from '../../shared/federation/federation.ts'
import { mount } from '../../shared/http/mount.ts'
import { roleContext } from '../../shared/http/role-context.ts'
import { generateSigningKey } from '../../shared/matrix/signatures.ts'
import { createMemoryEphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import { createInProcessReplication } from '../../shared/replication/in-process.ts'
import { testDatabase } from './database.ts'

export interface Answer {
  readonly status: number
  readonly body: Record<string, unknown>
  readonly headers: Headers
}

export async function accountServer(
  settings: Partial<v.InferInput<typeof Config>> = {},
  rooms: Partial<AccountRooms & Pick<MainClient, 'changeMembership'>> = {},
) {
  const database = await testDatabase()
  const clock = fakeClock()
  const config = v.parse(Config, {
    server_name: 'hs1',
    registration: { enabled: true, guests: true, shared_secret: 'complement' },
    password: { bcrypt_rounds: 4 },
    rate_limits: { enabled: false },
    ...settings,
  })
  const replication = createInProcessReplication(await storedPositions(database.sql), clock)
  const committer = createCommitter({ sql: database.sql, publisher: replication, clock })
  const logged: string[] = []
  const accounts = createAccounts({
    config,
    sql: database.sql,
    committer,
    clock,
    queue: createKeyedQueue(),
    departures: createDepartures({
      sql: database.sql,
      clock,
      changeMembership:
        rooms.changeMembership ??
        (async () => {
          throw new Error('no room is expected to change')
        }),
      asOwner: (_user, work) => work(),
      onError(error) {
        throw error
      },
    }),
    endedRows: { sweep() {} },
    rooms: { memberProfileChanged: async () => {}, ...rooms },
  })
  // The routes of accounts call no commands but these.
  const main = accounts as MainClient
  const log = {
    error(fields: object, message: string) {
      const { err, ...rest } = fields as { err?: unknown }
      logged.push(`${message} ${JSON.stringify(rest)} ${err instanceof Error ? err.stack : String(err)}`)
    },
  }
  const context = roleContext({ config, sql: database.read, main, replication, clock, log })
  const deps: ClientDeps = {
    config,
    sql: database.read,
    main,
    replication,
    ephemeral: createMemoryEphemeralStore(),
    clock,
    processes: async () => [],
    limiter: context.limiter,
    federation: createFederation({
      config,
      sql: database.read,
      main,
      signingKeys: [generateSigningKey('a_test')],
      clock,
      log,
    }),
  }
  const app = new Hono()
  mount(app, [...accountRoutes, ...profileRoutes], { ...context, deps })

  async function call(
    method: string,
    path: string,
    options: { token?: unknown; body?: unknown } = {},
  ): Promise<Answer> {
    const headers = new Headers()
    if (typeof options.token === 'string') headers.set('Authorization', `Bearer ${options.token}`)
    const body = options.body === undefined ? null : JSON.stringify(options.body)
    const url = path.startsWith('/') ? path : `/_matrix/client/v3/${path}`
    const response = await app.request(url, { method, headers, body })
    const text = await response.text()
    return {
      status: response.status,
      body: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>),
      headers: response.headers,
    }
  }

  return {
    app,
    call,
    clock,
    config,
    sql: database.sql,
    logged,
    async register(
      username: string,
      password = 'superuser',
    ): Promise<{ user_id: string; token: string; device_id: string }> {
      const { status, body } = await call('POST', 'register', {
        body: { username, password, auth: { type: 'm.login.dummy' } },
      })
      if (status !== 200) throw new Error(`registration failed: ${JSON.stringify(body)}`)
      return { user_id: String(body.user_id), token: String(body.access_token), device_id: String(body.device_id) }
    },
    login: (user: string, password: string, more: object = {}) =>
      call('POST', 'login', {
        body: { type: 'm.login.password', identifier: { type: 'm.id.user', user }, password, ...more },
      }),
    async close() {
      await committer.close()
      await database.drop()
    },
  }
}
export type AccountServer = Awaited<ReturnType<typeof accountServer>>

/** The `auth` of a password stage. */
export function passwordAuth(user: string, password: string, session?: unknown): object {
  return {
    type: 'm.login.password',
    identifier: { type: 'm.id.user', user },
    password,
    ...(session === undefined ? {} : { session }),
  }
}
