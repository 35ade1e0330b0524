/** Where no handlers are configured, those that announce themselves in Redis: they come and go without a restart here. */
import type { Clock } from '../../shared/clock.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { Role } from '../../shared/http/route.ts'
import { roles } from '../../shared/http/route-table.ts'
import type { Logger } from '../../shared/logging.ts'
import type { HandlerDirectory } from '../../shared/role/handler-registry.ts'
import type { Edge } from './edge.ts'

const lookEveryMs = 500

/** Roles without upstreams in the configuration. */
export function rolesToDiscover(config: Config): readonly Role[] {
  return roles.filter((role) => config.edge.upstreams[role] === undefined)
}

/** Keeps the edge's handlers of these roles as the directory has them, until it is called again. While the directory
 *  cannot be read, those known last stay. */
export function followHandlers(options: {
  readonly edge: Pick<Edge, 'setUpstreams'>
  readonly directory: HandlerDirectory
  readonly roles: readonly Role[]
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
}): () => void {
  const { edge, directory, clock, log } = options
  let ended = false
  let cancel = () => {}
  const failing = new Set<Role>()

  async function look(role: Role): Promise<void> {
    try {
      const urls = await directory.of(role)
      if (!ended) edge.setUpstreams(role, urls)
      failing.delete(role)
    } catch (err) {
      if (!failing.has(role)) log.warn({ err, role }, 'cannot look up the handlers of a role; it is tried again')
      failing.add(role)
    }
  }
  async function lookAtAll(): Promise<void> {
    await Promise.all(options.roles.map(look))
    if (!ended) cancel = clock.after(lookEveryMs, () => void lookAtAll())
  }
  void lookAtAll()
  return () => {
    ended = true
    cancel()
  }
}
