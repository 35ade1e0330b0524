/** Main and the media role over HTTP in this process, on a database and a store of its own. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Hono } from 'hono'
import * as v from 'valibot'
import { mountFederation } from '../../functions/federation/federation-role.ts'
import { createMediaRole } from '../../functions/media/media-role.ts'
import { fakeClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import type { FederationNetwork } from '../../shared/federation/federation.ts'
import { bindListeners } from '../../shared/http/listeners.ts'
import type { UserId } from '../../shared/matrix/ids.ts'
import { markerName } from '../../shared/media/store-marker.ts'
import { testMain } from './main.ts'

export interface MediaPerson {
  readonly user_id: UserId
  readonly token: string
  ask(method: string, path: string, options?: AskOptions): Promise<Response>
  /** The mxc:// URI's path: `hs1/…`. */
  upload(bytes: Uint8Array | string, options?: { readonly type?: string; readonly filename?: string }): Promise<string>
}

export interface AskOptions {
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Uint8Array | string | object
}

export type MediaServer = Awaited<ReturnType<typeof mediaServer>>

/** `further`: keys of the configuration beside `media`. Its keys, by which other servers know it, are served too. */
export async function mediaServer(media: object = {}, further: object = {}, network: FederationNetwork = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'ganglion-media-'))
  const clock = fakeClock()
  const settings = {
    server_name: 'hs1',
    password: { bcrypt_rounds: 4 },
    rate_limits: { enabled: false },
    data_dir: folder,
    listeners: [{ port: 0 }],
    media,
    ...further,
  }
  const config = v.parse(Config, settings)
  const main = await testMain({ config: settings, clock, network })
  const logged: { fields: object; message: string }[] = []
  const log = (fields: object, message: string) => logged.push({ fields, message })
  const deps = {
    config,
    sql: main.database.read,
    main: main.commands,
    replication: main.replication,
    clock,
    log: { error: log, warn: log },
  }
  const { federation } = main
  const role = createMediaRole({ ...deps, federation })
  const app = new Hono()
  role.mount(app)
  mountFederation(app, { ...deps, federation })
  const listeners = await bindListeners(config)
  listeners.open((request, env) => app.fetch(request, env))
  const [address = '', encrypted = address] = listeners.addresses

  async function person(localpart: string, admin = false): Promise<MediaPerson> {
    const { session } = await main.commands.register({
      user_id: `@${localpart}:${config.server_name}` as UserId,
      password: 'superuser',
      kind: 'user',
      admin,
      session: { refreshable: false },
    })
    if (!session) throw new Error('no session')
    const { user_id, access_token: token } = session
    const ask: MediaPerson['ask'] = (method, asked, { headers = {}, body } = {}) =>
      fetch(`${address}${asked}`, {
        method,
        headers: { authorization: `Bearer ${token}`, ...headers },
        redirect: 'manual',
        ...(body === undefined
          ? {}
          : {
              body:
                typeof body === 'string' || body instanceof Uint8Array
                  ? new Uint8Array(Buffer.from(body))
                  : JSON.stringify(body),
            }),
      })
    return {
      user_id,
      token,
      ask,
      async upload(bytes, { type = 'text/plain', filename } = {}) {
        const query = filename === undefined ? '' : `?filename=${encodeURIComponent(filename)}`
        const answer = await ask('POST', `/_matrix/media/v3/upload${query}`, {
          headers: { 'content-type': type },
          body: bytes,
        })
        if (answer.status !== 200)
          throw new Error(`an upload was answered with ${answer.status} ${await answer.text()}`)
        const { content_uri } = (await answer.json()) as { content_uri: string }
        return content_uri.slice('mxc://'.length)
      },
    }
  }

  return {
    address,
    port: Number(new URL(address).port),
    /** For other servers. */
    encryptedPort: Number(new URL(encrypted).port),
    clock,
    config,
    role,
    federation,
    sql: main.database.sql,
    commands: main.commands,
    logged,
    person,
    /** Names of the objects in the folder. */
    async objects(): Promise<string[]> {
      const names = await readdir(path.join(folder, 'media'), { recursive: true, withFileTypes: true }).catch(() => [])
      return names
        .filter((entry) => entry.isFile() && entry.name !== markerName)
        .map((entry) => path.relative(path.join(folder, 'media'), path.join(entry.parentPath, entry.name)))
        .sort()
    },
    async close() {
      await role.close()
      await listeners.close(1_000)
      await main.drop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
