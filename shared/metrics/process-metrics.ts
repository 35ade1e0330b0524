/** The metrics that every process has, whatever its role. Names are Synapse's where the meaning is the same, so that
 *  dashboards made for it show something. */
import type { StreamName, StreamPositions } from '../streams/registry.ts'
import type { MetricRegistry } from './registry.ts'
import type { RequestTallies } from './request-tally.ts'
import { allCaches, allCommands, allNumbers, tallies } from './tallies.ts'

const streamNames = Object.keys(tallies.streams) as StreamName[]

export function addRequestMetrics(registry: MetricRegistry, requests: RequestTallies): void {
  registry.gauge({
    name: 'synapse_http_server_in_flight_requests_count',
    help: 'Requests that are being answered',
    labels: ['method', 'servlet'],
    read: () => [...requests.used()].map(({ method, path, inFlight }) => [{ method, servlet: path }, inFlight]),
  })
  registry.counter({
    name: 'synapse_http_server_requests_received_total',
    help: 'Requests that came in',
    labels: ['method', 'servlet'],
    read: () => [...requests.used()].map(({ method, path, received }) => [{ method, servlet: path }, received]),
  })
  registry.counter({
    name: 'synapse_http_server_responses_total',
    help: 'Answers by status',
    labels: ['method', 'code'],
    *read() {
      for (const { method, byStatus } of requests.used())
        for (const [code, { count }] of byStatus) yield [{ method, code }, count]
    },
  })
  registry.counter({
    name: 'ganglion_misrouted_requests_total',
    help: 'Requests that came to a role that does not serve them, and were passed on',
    read: () => tallies.misrouted,
  })
}

export function addCacheMetrics(registry: MetricRegistry): void {
  const gauge = (name: string, help: string, value: (cache: { hits: number; misses: number }) => number) =>
    registry.gauge({
      name,
      help,
      labels: ['name'],
      read: () => [...allCaches()].map(([of, cache]) => [{ name: of }, value(cache)]),
    })
  gauge('synapse_util_caches_cache_hits', 'Look-ups that found something', ({ hits }) => hits)
  gauge('synapse_util_caches_cache', 'All look-ups', ({ hits, misses }) => hits + misses)
  registry.gauge({
    name: 'synapse_util_caches_cache_size',
    help: 'What the cache holds now',
    labels: ['name'],
    *read() {
      for (const [name, { size }] of allCaches()) if (size) yield [{ name }, size()]
    },
  })
}

export function addStreamMetrics(registry: MetricRegistry, positions: () => StreamPositions): void {
  registry.gauge({
    name: 'ganglion_stream_position',
    help: 'Up to where this process knows each stream',
    labels: ['stream'],
    read() {
      const now = positions()
      return streamNames.map((stream) => [{ stream }, now[stream]])
    },
  })
  registry.gauge({
    name: 'synapse_event_persisted_position',
    help: 'Position of the newest event that this process knows',
    read: () => positions().events,
  })
  const perStream = (name: string, help: string, key: 'received' | 'published' | 'caughtUp') =>
    registry.counter({
      name,
      help,
      labels: ['stream_name'],
      read: () => streamNames.map((stream_name) => [{ stream_name }, tallies.streams[stream_name][key]]),
    })
  perStream('synapse_replication_tcp_protocol_inbound_rdata_count_total', 'Rows heard from other processes', 'received')
  perStream('synapse_replication_tcp_resource_stream_updates_total', 'Rows told to other processes', 'published')
  perStream('ganglion_replication_gaps_total', 'Times a message was missed and the gap was read', 'caughtUp')
  registry.gauge({
    name: 'ganglion_sync_lag_seconds',
    help: 'Largest time of the last 15 to 30 seconds from when news was published until who waits here was woken',
    read: () => tallies.lag.read() / 1000,
  })
  registry.gauge({
    name: 'ganglion_redis_round_trip_seconds',
    help: 'Largest time of the last 15 to 30 seconds from a command to Redis until its answer',
    read: () => tallies.redisRoundTrip.read() / 1000,
  })
}

export function addCommandMetrics(registry: MetricRegistry): void {
  const { sent, run } = allCommands()
  for (const [direction, commands, what] of [
    ['sent', sent, 'that this process asked a main to run'],
    ['run', run, 'that this process ran'],
  ] as const) {
    registry.counter({
      name: `ganglion_commands_${direction}_total`,
      help: `Commands ${what}, by how they ended`,
      labels: ['command', 'outcome'],
      *read() {
        for (const [command, { outcomes }] of commands)
          for (const [outcome, count] of outcomes) yield [{ command, outcome }, count]
      },
    })
    registry.counter({
      name: `ganglion_commands_${direction}_seconds_total`,
      help: `Time that commands took ${what}`,
      labels: ['command'],
      read: () => [...commands].map(([command, { seconds }]) => [{ command }, seconds]),
    })
  }
}

/** What parts of this process tell of themselves. They come and go at any time: the returned function, called before each
 *  scrape, makes up for it. */
export function liveNumberMetrics(registry: MetricRegistry): () => void {
  const added = new Set<string>()
  return () => {
    const numbers = allNumbers()
    for (const [name, { help }] of numbers) {
      if (added.has(name)) continue
      added.add(name)
      registry.gauge({ name, help, read: () => numbers.get(name)?.read() ?? 0 })
    }
    for (const name of added) {
      if (!numbers.has(name) && added.delete(name)) registry.remove(name)
    }
  }
}

export function addWaitingMetrics(registry: MetricRegistry): void {
  registry.gauge({
    name: 'synapse_notifier_listeners',
    help: 'Clients that wait in a long poll',
    read: () => tallies.waiting,
  })
}

/** Of a process that writes. */
export function addWriterMetrics(registry: MetricRegistry): void {
  registry.counter({
    name: 'synapse_storage_events_persisted_events_total',
    help: 'Events that this process stored',
    read: () => tallies.eventsPersisted,
  })
  registry.counter({
    name: 'ganglion_commits_total',
    help: 'Commits of this process',
    read: () => tallies.commits,
  })
  registry.counter({
    name: 'ganglion_writes_total',
    help: 'Writes that shared these commits',
    read: () => tallies.writes,
  })
}
