/** What every role mounts its routes with. Roles in one process share it: one memory of tokens, one set of rate limits. */
import { createAuthenticate } from '../auth/authenticate.ts'
import type { Clock } from '../clock.ts'
import type { MainClient } from '../commands/registry.ts'
import type { Config } from '../config/schema.ts'
import { consentUri, neededConsent } from '../policies.ts'
import type { Replication } from '../replication/replication.ts'
import type { ReadSql } from '../storage/sql.ts'
import type { ErrorLog } from './error-response.ts'
import type { MountContext } from './mount.ts'
import { createLimiter, type Limiter } from './rate-limit.ts'
import { clientAddressBehind } from './request-info.ts'

export interface RoleContextDeps {
  readonly config: Config
  readonly sql: ReadSql
  readonly main: Pick<MainClient, 'deviceSeen' | 'confirmRefresh' | 'createConsentToken'>
  readonly replication: Replication
  readonly clock: Clock
  readonly log: ErrorLog
  /** In place of limits that this process keeps by itself. */
  readonly limiter?: Limiter
  /** Where metrics are on. */
  readonly observe?: MountContext<unknown>['observe']
}
export type RoleContext = Omit<MountContext<unknown>, 'deps'>

const contexts = new WeakMap<Replication, RoleContext>()

/** `mount(app, routes, { ...roleContext(deps), deps })`. */
export function roleContext(deps: RoleContextDeps): RoleContext {
  const known = contexts.get(deps.replication)
  if (known) return known
  const { config, clock, log, main, replication } = deps
  const context: RoleContext = {
    authenticate: createAuthenticate({
      ...deps,
      neededConsent: neededConsent(config),
      accountsExpire: config.account_validity.enabled,
      deviceSeen: ({ agent, ...seen }) => {
        // Not awaited: no request fails because the time of a visit could not be noted.
        main
          .deviceSeen({ ...seen, ...(agent === undefined ? {} : { agent }) })
          .catch((error: unknown) => log.error({ err: error }, 'could not note when a device was seen'))
      },
      confirmRefresh: main.confirmRefresh,
    }),
    askForConsent: async (user) => {
      const { token } = await main.createConsentToken({ user_id: user.user_id })
      return consentUri(config, user.user_id, token)
    },
    fresh: replication.fresh && (() => replication.fresh?.()),
    limiter: deps.limiter ?? createLimiter(config.rate_limits, clock),
    clientAddress: clientAddressBehind(config.trusted_proxies),
    log,
    observe: deps.observe,
    bodyBytesMax: config.limits.request_body,
  }
  contexts.set(deps.replication, context)
  return context
}
