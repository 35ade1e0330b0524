/** The federation role, put together for whichever process has it. */
import type { Hono } from 'hono'
import { withSignsOfLife } from '../../shared/federation/signs-of-life.ts'
import { mount } from '../../shared/http/mount.ts'
import { type RoleContextDeps, roleContext } from '../../shared/http/role-context.ts'
import type { FederationDeps } from './deps.ts'
import { federationRoutes } from './routes.ts'

export function mountFederation(app: Hono, deps: RoleContextDeps & FederationDeps): void {
  const { config, sql, clock, federation, main } = deps
  mount(app, federationRoutes, {
    ...roleContext(deps),
    authenticateServer: withSignsOfLife(federation.authenticateServer, {
      sql,
      clock,
      main,
      onError: (err) => deps.log.error({ err }, 'that a server lives could not be told'),
    }),
    deps: { config, clock, sql, federation, main },
  })
}
