import { readFileSync } from 'node:fs'
import { Hono } from 'hono'
import * as v from 'valibot'
import { afterEach, describe, expect, test } from 'vitest'
import { fakeClock } from '../clock.ts'
import { Config } from '../config/schema.ts'
import { mount } from '../http/mount.ts'
import { createLimiter } from '../http/rate-limit.ts'
import { routesFor } from '../http/route.ts'
import { silentLogger } from '../logging.ts'
import { MatrixError } from '../matrix/matrix-error.ts'
import { version } from '../version.ts'
import { type Metrics, openMetrics } from './metrics.ts'
import { RequestTallies } from './request-tally.ts'
import { cacheTally, commandEnded, commandSentTally, liveNumber } from './tallies.ts'
import { WindowMax } from './window-max.ts'

const config = v.parse(Config, { server_name: 'metrics.test', metrics: { listen: { port: 0 } } })
const options = { config, role: 'client', writes: true, log: silentLogger }
let metrics: Metrics | undefined

afterEach(async () => {
  await metrics?.close()
  metrics = undefined
})

async function opened(): Promise<Metrics> {
  metrics = await openMetrics(options)
  if (!metrics) throw new Error('no metrics')
  return metrics
}

/** Series by name and labels, as they stand in the text. */
async function scrape({ address }: Metrics, path = '/metrics'): Promise<ReadonlyMap<string, number>> {
  const answer = await fetch(address + path)
  expect(answer.headers.get('content-type')).toContain('text/plain; version=0.0.4')
  const lines = (await answer.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]))
}

const labels = (text: string) => `{${text},server_name="metrics.test"}`

describe('metrics', () => {
  test('are absent without a listener', async () => {
    const off = v.parse(Config, { server_name: 'metrics.test' })
    expect(await openMetrics({ ...options, config: off })).toBeUndefined()
  })

  test('count requests by declared path, method and status, whatever paths are asked for', async () => {
    const opening = await opened()
    const route = routesFor<object>()
    const app = new Hono()
    mount(
      app,
      [
        route({
          method: 'GET',
          path: '/_matrix/client/v3/rooms/:roomId/thing',
          spec: '',
          auth: 'none',
          params: v.object({ roomId: v.string() }),
          handle({ params }) {
            if (params.roomId === 'not-mine') throw new MatrixError('M_FORBIDDEN', 'no')
            return {}
          },
        }),
      ],
      {
        deps: {},
        authenticate: () => {
          throw new Error('nobody logs in here')
        },
        limiter: createLimiter(config.rate_limits, fakeClock()),
        clientAddress: () => '',
        log: silentLogger,
        observe: opening.observe,
      },
    )
    for (let i = 0; i < 20; i++) await app.request(`/_matrix/client/v3/rooms/${i}/thing`)
    await app.request('/_matrix/client/r0/rooms/not-mine/thing')
    const series = await scrape(opening)
    const of = 'method="GET",servlet="/_matrix/client/v3/rooms/:roomId/thing"'
    expect(series.get(`synapse_http_server_requests_received_total${labels(of)}`)).toBe(21)
    expect(series.get(`synapse_http_server_in_flight_requests_count${labels(of)}`)).toBe(0)
    const time = 'synapse_http_server_response_time_seconds'
    expect(series.get(`${time}_count${labels(`${of},tag="",code="200"`)}`)).toBe(20)
    expect(series.get(`${time}_count${labels(`${of},tag="",code="403"`)}`)).toBe(1)
    expect(series.get(`${time}_bucket${labels(`${of},tag="",code="200",le="+Inf"`)}`)).toBe(20)
    expect([...series.keys()].filter((key) => key.startsWith('synapse_http_server_requests_received'))).toHaveLength(1)
  })

  test('tell of caches, commands and the process, at the path that Synapse has too', async () => {
    const opening = await opened()
    const cache = cacheTally('a_cache')
    cache.hits += 3
    cache.misses += 1
    cache.size = () => 7
    commandEnded(commandSentTally('sendEvent'), 'refused', 1500)
    const end = liveNumber('ganglion_depth', 'A depth', () => 4)
    opening.gauge({ name: 'ganglion_unknown', help: 'Not known now', labels: ['of'], read: () => [] })
    const series = await scrape(opening, '/_synapse/metrics')
    expect(series.get(`synapse_util_caches_cache_hits${labels('name="a_cache"')}`)).toBe(3)
    expect(series.get(`synapse_util_caches_cache${labels('name="a_cache"')}`)).toBe(4)
    expect(series.get(`synapse_util_caches_cache_size${labels('name="a_cache"')}`)).toBe(7)
    expect(
      series.get(`ganglion_commands_sent_total${labels('command="sendEvent",outcome="refused"')}`),
    ).toBeGreaterThan(0)
    expect(series.get('ganglion_depth{server_name="metrics.test"}')).toBe(4)
    end()
    expect((await scrape(opening)).has('ganglion_depth{server_name="metrics.test"}')).toBe(false)
    expect([...series.keys()].join()).not.toContain('ganglion_unknown')
    expect(series.get('process_resident_memory_bytes{server_name="metrics.test"}')).toBeGreaterThan(1e6)
    expect(series.has('nodejs_eventloop_lag_p99_seconds{server_name="metrics.test"}')).toBe(true)
    expect((await fetch(`${opening.address}/_matrix/client/versions`)).status).toBe(404)
  })

  test('say which port is taken', async () => {
    const first = await opened()
    const port = Number(new URL(first.address).port)
    const same = v.parse(Config, { server_name: 'metrics.test', metrics: { listen: { port } } })
    await expect(openMetrics({ ...options, config: same })).rejects.toThrow(/is taken.*metrics\.listen/)
  })
})

test('a request costs its route less than a microsecond or so to count', () => {
  const observer = new RequestTallies().observe({ method: 'GET', path: '/a' })
  const rounds = 200_000
  let best = Number.POSITIVE_INFINITY
  for (let attempt = 0; attempt < 5; attempt++) {
    const startedAt = performance.now()
    for (let i = 0; i < rounds; i++) {
      observer.begin()
      observer.end(200, i % 100)
    }
    best = Math.min(best, ((performance.now() - startedAt) / rounds) * 1000)
  }
  expect(best).toBeLessThan(2)
})

test('a response time counts in the first bucket that holds it, and above all in none but +Inf', () => {
  const tally = new RequestTallies().observe({ method: 'GET', path: '/a' })
  for (const ms of [5, 5.1, 31_000]) {
    tally.begin()
    tally.end(200, ms)
  }
  const { counts, count, seconds } = tally.byStatus.get(200) ?? { counts: [], count: 0, seconds: 0 }
  expect([counts[0], counts[1], counts.at(-1), count]).toEqual([1, 1, 1, 3])
  expect(seconds).toBeCloseTo(31.0101)
})

test('a peak is seen for one to two windows', () => {
  let now = 0
  const max = new WindowMax(10, () => now)
  max.note(5)
  max.note(3)
  now = 9
  expect(max.read()).toBe(5)
  now = 15
  expect(max.read()).toBe(5)
  now = 26
  expect(max.read()).toBe(0)
  max.note(1)
  now = 100
  expect(max.read()).toBe(0)
})

test('the version is that of the package', () => {
  expect(version).toBe(JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version)
})
