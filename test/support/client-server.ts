/** The whole client-server API in this process, on a database of its own: main, and the routes of client and sync over it. */
import { Hono } from 'hono'
import * as v from 'valibot'
import { createClientRole } from '../../functions/client/client-role.ts'
import { createSyncRole } from '../../functions/sync/role.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import type { ErrorLog } from '../../shared/http/error-response.ts'
import { mount } from '../../shared/http/mount.ts'
import { roleContext } from '../../shared/http/role-context.ts'
import type { DeviceId, UserId } from '../../shared/matrix/ids.ts'
import { createMemoryEphemeralStore } from '../../shared/replication/ephemeral-store.ts'
import { type TestMain, testMain } from './main.ts'

// biome-ignore lint/suspicious/noExplicitAny: a test reads the answer as a client would
type Body = any

export interface Reply {
  readonly status: number
  readonly body: Body
}

export interface Page {
  readonly status: number
  readonly headers: Headers
  readonly html: string
}

export interface TestClient {
  readonly user_id: UserId
  readonly device_id: DeviceId
  readonly token: string
  /** Any answer. */
  ask(method: string, path: string, body?: unknown): Promise<Reply>
  /** The body of a 200; rejects with anything else. */
  must(method: string, path: string, body?: unknown): Promise<Body>
  sync(query?: Record<string, string | number>): Promise<Body>
}

export const password = 'superuser'

export interface ClientServer {
  readonly main: TestMain
  /** Any answer, to somebody without a token where there is none. */
  ask(method: string, path: string, body?: unknown, token?: string): Promise<Reply>
  /** As a browser asks: of a form, its fields. */
  browse(url: string, form?: Readonly<Record<string, string>>): Promise<Page>
  /** A new user with a first device. */
  register(localpart: string, options?: { readonly admin?: boolean }): Promise<TestClient>
  /** A further device. */
  login(user_id: UserId, device_id?: string): Promise<TestClient>
  /** Whoever holds this session. */
  client(session: { user_id: UserId; device_id: DeviceId; access_token: string }): TestClient
  /** Another sync process: nothing of what was in memory is left. */
  forget(): void
  close(): Promise<void>
}

export interface ClientServerOptions {
  readonly config?: Partial<v.InferInput<typeof Config>>
  readonly clock?: Clock
  /** In place of failing the test. */
  readonly log?: ErrorLog
}

export async function clientServer(options: ClientServerOptions = {}): Promise<ClientServer> {
  const { clock = systemClock } = options
  const settings = {
    server_name: 'hs1',
    password: { bcrypt_rounds: 4 },
    rate_limits: { enabled: false },
    ...options.config,
  }
  const main = await testMain({ config: settings, clock, ...(options.log ? { log: options.log } : {}) })
  const config = v.parse(Config, settings)
  const { commands, replication, database } = main
  const log = options.log ?? {
    error(fields: object, message: string) {
      throw new Error(`${message}: ${JSON.stringify(fields)}`)
    },
  }
  const common = { config, sql: database.read, replication, clock }
  const deps = {
    ...common,
    main: commands,
    federation: main.federation,
    ephemeral: createMemoryEphemeralStore(),
    processes: async () => [],
    log,
  }
  const client = createClientRole(deps)
  const newSync = () =>
    createSyncRole({
      ...common,
      onError(error) {
        throw error
      },
    })
  let sync = newSync()
  let app = new Hono()
  function serve(): void {
    app = new Hono()
    client.mount(app)
    mount(app, sync.routes, { ...roleContext(deps), deps: sync.deps })
  }
  serve()

  async function ask(token: string | undefined, method: string, path: string, body?: unknown): Promise<Reply> {
    const url = path.startsWith('/') ? path : `/_matrix/client/v3/${path}`
    const response = await app.request(url, {
      method,
      headers: token === undefined ? {} : { Authorization: `Bearer ${token}` },
      body: body === undefined ? null : JSON.stringify(body),
    })
    return { status: response.status, body: JSON.parse(await response.text()) }
  }

  function clientOf(session: { user_id: UserId; device_id: DeviceId; access_token: string }): TestClient {
    const { user_id, device_id, access_token: token } = session
    async function must(method: string, path: string, body?: unknown): Promise<Body> {
      const reply = await ask(token, method, path, body)
      if (reply.status !== 200) throw new Error(`${method} ${path}: ${reply.status} ${JSON.stringify(reply.body)}`)
      return reply.body
    }
    return {
      user_id,
      device_id,
      token,
      ask: (method, path, body) => ask(token, method, path, body),
      must,
      sync: (query = {}) =>
        must('GET', `sync?${new URLSearchParams(Object.entries(query).map(([key, value]) => [key, String(value)]))}`),
    }
  }

  return {
    main,
    ask: (method, path, body, token) => ask(token, method, path, body),
    async browse(url, form) {
      const { pathname, search } = new URL(url, 'https://hs1')
      const response = await app.request(
        `${pathname}${search}`,
        form ? { method: 'POST', body: new URLSearchParams(form) } : {},
      )
      return { status: response.status, headers: response.headers, html: await response.text() }
    },
    async register(localpart, { admin = false } = {}) {
      const { session } = await commands.register({
        user_id: `@${localpart}:hs1` as UserId,
        password,
        kind: 'user',
        admin,
        session: { refreshable: false },
      })
      if (!session) throw new Error('no session')
      return clientOf(session)
    },
    async login(user_id, device_id) {
      const credentials = { type: 'm.login.password', user_id, password } as const
      const session = { refreshable: false, ...(device_id === undefined ? {} : { device_id: device_id as DeviceId }) }
      return clientOf(await commands.login({ credentials, session }))
    },
    client: clientOf,
    forget() {
      sync.close()
      sync = newSync()
      serve()
    },
    async close() {
      sync.close()
      await client.close()
      await main.drop()
    },
  }
}
