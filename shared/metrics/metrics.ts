/** Prometheus metrics of one process, on a listener of their own: `GET /metrics` and, as with Synapse,
 *  `GET /_synapse/metrics`. Without `metrics.listen` in the configuration, nothing of this is loaded. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Config } from '../config/schema.ts'
import type { MountContext } from '../http/mount.ts'
import type { Logger } from '../logging.ts'
import type { StreamPositions } from '../streams/registry.ts'
import { version } from '../version.ts'
import type { MetricDefinition } from './registry.ts'

export interface Metrics {
  /** For `roleContext`. */
  readonly observe: NonNullable<MountContext<unknown>['observe']>
  /** A value that goes up and down, asked for at each scrape. */
  gauge(definition: MetricDefinition): void
  /** A value that only rises, asked for at each scrape; the name ends in `_total`. */
  counter(definition: MetricDefinition): void
  /** Adds what can be said of the streams, once there is replication. */
  watchStreams(positions: () => StreamPositions): void
  /** Such as `http://127.0.0.1:9000`. */
  readonly address: string
  close(): Promise<void>
}

export interface MetricsOptions {
  readonly config: Config
  /** Of this process, such as `sync` or `monolith`: the label `role` of `ganglion_build_info`. */
  readonly role: string
  /** It stores events. */
  readonly writes: boolean
  readonly log: Pick<Logger, 'info' | 'error'>
}

const paths = new Set(['/metrics', '/_synapse/metrics'])

/** Undefined where the configuration asks for none. Rejects with a sentence for the operator when the port is taken. */
export async function openMetrics(options: MetricsOptions): Promise<Metrics | undefined> {
  const { listen } = options.config.metrics
  if (!listen) return undefined
  const [{ createRegistry }, { RequestTallies }, sources] = await Promise.all([
    import('./registry.ts'),
    import('./request-tally.ts'),
    import('./process-metrics.ts'),
  ])
  const { config, role, log } = options
  const requests = new RequestTallies()
  const registry = createRegistry(requests, { server_name: config.server_name })
  registry.gauge({
    name: 'ganglion_build_info',
    help: 'What runs here; the value is always 1',
    labels: ['version', 'role', 'node'],
    read: () => [[{ version, role, node: process.versions.node }, 1]],
  })
  sources.addRequestMetrics(registry, requests)
  sources.addCacheMetrics(registry)
  sources.addCommandMetrics(registry)
  sources.addWaitingMetrics(registry)
  const addNewNumbers = sources.liveNumberMetrics(registry)
  if (options.writes) sources.addWriterMetrics(registry)

  const server = createServer((request, response) => {
    const [path = ''] = (request.url ?? '').split('?')
    if (request.method !== 'GET' || !paths.has(path)) {
      response.writeHead(404, { 'Content-Type': 'text/plain' }).end('Metrics are at /metrics\n')
      return
    }
    addNewNumbers()
    registry.text().then(
      (text) => response.writeHead(200, { 'Content-Type': registry.contentType }).end(text),
      (err: unknown) => {
        log.error({ err }, 'the metrics could not be read')
        response.writeHead(500).end()
      },
    )
  })
  const host = listen.bind.includes(':') ? `[${listen.bind}]` : listen.bind
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new Error(
          error.code === 'EADDRINUSE'
            ? `${host}:${listen.port} is taken by another program; set another port in \`metrics.listen\``
            : `cannot listen on ${host}:${listen.port} for metrics: ${error.message}`,
          { cause: error },
        ),
      ),
    )
    server.listen(listen.port, listen.bind, resolve)
  })
  // A scraper alone keeps no process alive that has nothing else to do.
  server.unref()
  const address = `http://${host}:${(server.address() as AddressInfo).port}`
  log.info({ address: `${address}/metrics` }, 'metrics')
  return {
    observe: requests.observe,
    gauge: registry.gauge,
    counter: registry.counter,
    watchStreams: (positions) => sources.addStreamMetrics(registry, positions),
    address,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
