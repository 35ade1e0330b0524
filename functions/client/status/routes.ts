/** How the server is, for its administrators: a page for the browser, and what it shows as JSON. */
import { version } from '../../../shared/version.ts'
import { route } from '../deps.ts'
import { statusPage } from './page.ts'
import { destinationsAtAGlance, mainsAndShards, storedPositions } from './stored.ts'

/** Everything that the page shows. Administrators only. */
export const getStatus = route({
  method: 'GET',
  path: '/_synapse/admin/v1/ganglion/status',
  spec: 'docs/operating.md#the-status-page',
  auth: 'admin',
  limit: 'read',
  async handle(_, { config, sql, clock, processes }) {
    const [streams, { mains, shards }, destinations, known] = await Promise.all([
      storedPositions(sql),
      mainsAndShards(sql),
      destinationsAtAGlance(sql),
      processes().then(
        (list) => ({ list, reached: true }),
        // The rest is worth showing all the more while Redis is away.
        () => ({ list: [], reached: false }),
      ),
    ])
    const order = (a: { role: string; id: string }, b: { role: string; id: string }) =>
      a.role.localeCompare(b.role) || a.id.localeCompare(b.id)
    return {
      server_name: config.server_name,
      version,
      now_ts: clock.now(),
      separate_roles: config.redis.url !== undefined,
      redis_reached: known.reached,
      streams,
      mains,
      shards,
      destinations,
      processes: [...known.list].sort(order),
    }
  },
})

/** The page holds no data: whoever opens it logs in there. */
export const getStatusPage = route({
  method: 'GET',
  path: '/_synapse/admin/ganglion',
  spec: 'docs/operating.md#the-status-page',
  auth: 'none',
  handle: () => statusPage(),
})

export const statusRoutes = [getStatus, getStatusPage] as const
