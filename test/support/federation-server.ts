/** The server-server API in this process, on a database of its own. */
import { Hono } from 'hono'
import * as v from 'valibot'
import { mountFederation } from '../../functions/federation/federation-role.ts'
import { type Clock, systemClock } from '../../shared/clock.ts'
import { Config } from '../../shared/config/schema.ts'
import type { FederationPeer, TestAuthority } from './federation-peer.ts'
import { type TestMain, testMain } from './main.ts'

export interface FederationServer {
  readonly main: TestMain
  readonly server_name: string
  /** For requests that `ask` would not make. */
  readonly app: Hono
  /** A request as it comes, signed by whoever is given. */
  ask(
    method: string,
    uri: string,
    options?: { readonly by?: FederationPeer; readonly body?: object; readonly authorization?: string },
  ): Promise<{ readonly status: number; readonly body: Record<string, unknown> }>
  close(): Promise<void>
}

export async function federationServer(options: {
  readonly authority: TestAuthority
  readonly federation?: Record<string, unknown>
  readonly clock?: Clock
}): Promise<FederationServer> {
  const server_name = 'hs1'
  const settings = {
    server_name,
    federation: { ca_path: options.authority.caPath, ...options.federation },
    egress: { allowed_ranges: ['127.0.0.0/8'] },
    rate_limits: { enabled: false },
  }
  const clock = options.clock ?? systemClock
  const main = await testMain({ config: settings, clock })
  const config = v.parse(Config, settings)
  const app = new Hono()
  const deps = {
    config,
    sql: main.database.read,
    main: main.commands,
    replication: main.replication,
    clock,
    log: {
      error(fields: object, message: string) {
        throw new Error(`${message}: ${JSON.stringify(fields)}`)
      },
    },
  }
  const { federation } = main
  mountFederation(app, { ...deps, federation })
  return {
    main,
    server_name,
    app,
    async ask(method, uri, { by, body, authorization } = {}) {
      const header =
        authorization ??
        by?.authorization({ method, uri, destination: server_name, ...(body ? { content: body as never } : {}) })
      const response = await app.request(`http://${server_name}${uri}`, {
        method,
        headers: header === undefined ? {} : { authorization: header },
        ...(body ? { body: JSON.stringify(body) } : {}),
      })
      return { status: response.status, body: (await response.json()) as Record<string, unknown> }
    },
    async close() {
      await main.drop()
    },
  }
}
