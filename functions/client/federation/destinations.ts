/** How it goes with sending to other servers, at Synapse's paths and in its form, with what this server knows beside.
 *  https://element-hq.github.io/synapse/latest/usage/administration/admin_api/federation.html */
import * as v from 'valibot'
import { ServerName } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import {
  type DestinationStatus,
  destinationOrders,
  destinationStatus,
  destinationsPage,
  roomsOfDestination,
  waitingFor,
} from '../../../shared/storage/destination-status.ts'
import type { ReadSql } from '../../../shared/storage/sql.ts'
import { route } from '../deps.ts'

const path = '/_synapse/admin/v1/federation/destinations'
const spec = 'docs/operating.md#other-servers'
const whole = v.pipe(v.string(), v.regex(/^\d{1,9}$/), v.transform(Number))
const page = {
  from: v.optional(whole, '0'),
  limit: v.optional(v.pipe(whole, v.minValue(1), v.maxValue(1_000)), '100'),
  dir: v.optional(v.picklist(['f', 'b']), 'f'),
}
const params = v.object({ destination: ServerName })
const orders = Object.keys(destinationOrders) as (keyof typeof destinationOrders)[]

function shown({ server_name, cursor, failing_since_ts, ...row }: DestinationStatus) {
  const retry_interval = row.attempts === 0 ? 0 : Math.min(1_000 * 2 ** (row.attempts - 1), 3_600_000)
  return {
    destination: server_name,
    retry_last_ts: row.retry_ts === null ? 0 : Math.max(0, row.retry_ts - retry_interval),
    retry_interval,
    failure_ts: failing_since_ts,
    last_successful_stream_ordering: cursor,
    ...row,
  }
}

async function found(sql: ReadSql, destination: ServerName): Promise<DestinationStatus> {
  const row = await destinationStatus(sql, destination)
  if (!row) throw new MatrixError('M_NOT_FOUND', 'Unknown destination')
  return row
}

const next = (from: number, count: number, total: number) =>
  from + count < total ? { next_token: String(from + count) } : {}

export const getDestinations = route({
  method: 'GET',
  path,
  spec,
  auth: 'admin',
  limit: 'read',
  query: v.object({
    ...page,
    destination: v.optional(v.string()),
    order_by: v.optional(v.picklist(orders), 'destination'),
  }),
  async handle({ query: { from, limit, dir, destination: named, order_by: order } }, { sql }) {
    const { total, destinations } = await destinationsPage(sql, { named, order, descending: dir === 'b', from, limit })
    return { destinations: destinations.map(shown), total, ...next(from, destinations.length, total) }
  },
})

export const getDestination = route({
  method: 'GET',
  path: `${path}/:destination`,
  spec,
  auth: 'admin',
  limit: 'read',
  params,
  async handle({ params: { destination } }, { sql }) {
    const row = await found(sql, destination)
    const waiting = (await waitingFor(sql, [destination])).get(destination)
    return { ...shown(row), ...(waiting ? { waiting } : undefined) }
  },
})

export const getDestinationRooms = route({
  method: 'GET',
  path: `${path}/:destination/rooms`,
  spec,
  auth: 'admin',
  limit: 'read',
  params,
  query: v.object(page),
  async handle({ params: { destination }, query: { from, limit, dir } }, { sql }) {
    await found(sql, destination)
    const { total, rooms } = await roomsOfDestination(sql, destination, { descending: dir === 'b', from, limit })
    return { rooms, total, ...next(from, rooms.length, total) }
  },
})

export const postResetConnection = route({
  method: 'POST',
  path: `${path}/:destination/reset_connection`,
  spec,
  auth: 'admin',
  params,
  async handle({ params: { destination } }, { sql, main }) {
    if ((await found(sql, destination)).attempts === 0) {
      throw new MatrixError('M_UNKNOWN', 'Retry timing does not need to be reset for this destination.', {
        status: 400,
      })
    }
    await main.serverAlive({ server_name: destination })
    return {}
  },
})

export const destinationRoutes = [getDestinations, getDestination, getDestinationRooms, postResetConnection] as const
