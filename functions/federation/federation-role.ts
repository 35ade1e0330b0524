/** The federation role, put together for whichever process has it. */
import type { Hono } from 'hono'
import { createFederation, type FederationOptions } from '../../shared/federation/federation.ts'
import { mount } from '../../shared/http/mount.ts'
import { type RoleContextDeps, roleContext } from '../../shared/http/role-context.ts'
import { federationRoutes } from './routes.ts'

export interface FederationRole {
  close(): Promise<void>
}

export function mountFederation(app: Hono, deps: RoleContextDeps & FederationOptions): FederationRole {
  const { config, sql, clock, signingKeys, replication } = deps
  const federation = createFederation({ ...deps, cache: replication.cache })
  const { keyRing, authenticateServer } = federation
  mount(app, federationRoutes, {
    ...roleContext(deps),
    authenticateServer,
    deps: { config, clock, sql, signingKeys, keyRing },
  })
  return { close: federation.close }
}
