/** The client role: every endpoint of the client-server API but sync and media. Checks and reads here, writes by command. */
import type { Hono } from 'hono'
import type { ErrorLog } from '../../shared/http/error-response.ts'
import { mount } from '../../shared/http/mount.ts'
import { roleContext } from '../../shared/http/role-context.ts'
import type { Route } from '../../shared/http/route.ts'
import type { ClientDeps } from './deps.ts'
import { clientRoutes } from './routes.ts'

export interface ClientRole {
  readonly routes: readonly Route<ClientDeps>[]
  readonly deps: ClientDeps
  mount(app: Hono): void
  /** Nothing of this role runs on by itself. */
  close(): Promise<void>
}

export function createClientRole(given: Omit<ClientDeps, 'limiter'> & { readonly log: ErrorLog }): ClientRole {
  const context = roleContext(given)
  const deps: ClientDeps = { ...given, limiter: context.limiter }
  return {
    routes: clientRoutes,
    deps,
    mount: (app) => mount(app, clientRoutes, { ...context, deps }),
    close: async () => {},
  }
}
