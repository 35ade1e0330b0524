/** What a scrape reads, in prom-client's registry: every value is asked for at that moment, so nothing is kept up to date
 *  in between. */
import {
  Counter,
  collectDefaultMetrics,
  Gauge,
  Histogram,
  type MetricObjectWithValues,
  type MetricValueWithName,
  Registry,
} from 'prom-client'
import { type RequestTallies, responseTimeBounds } from './request-tally.ts'

export type Labels = Readonly<Record<string, string | number>>
/** One value, or several with labels. */
export type Reading = number | Iterable<readonly [Labels, number]>

export interface MetricDefinition {
  readonly name: string
  readonly help: string
  readonly labels?: readonly string[]
  read(): Reading
}

export interface MetricRegistry {
  gauge(definition: MetricDefinition): void
  /** The name ends in `_total`; the values only rise. */
  counter(definition: MetricDefinition): void
  remove(name: string): void
  /** In Prometheus's text format. */
  text(): Promise<string>
  readonly contentType: string
}

/** `constant` labels stand at every series. Metrics of the process (`process_*`, `nodejs_*`) are there from the start. */
export function createRegistry(requests: RequestTallies, constant: Labels): MetricRegistry {
  const registry = new Registry()
  registry.setDefaultLabels(constant)
  collectDefaultMetrics({ register: registry })
  registry.registerMetric(new ResponseTimes(requests))

  return {
    gauge({ name, help, labels = [], read }) {
      new Gauge({
        name,
        help,
        labelNames: labels,
        registers: [registry],
        collect() {
          this.reset()
          const reading = read()
          if (typeof reading === 'number') this.set(reading)
          else for (const [of, value] of reading) this.set(of, value)
        },
      })
    },
    counter({ name, help, labels = [], read }) {
      new Counter({
        name,
        help,
        labelNames: labels,
        registers: [registry],
        collect() {
          this.reset()
          const reading = read()
          if (typeof reading === 'number') this.inc(reading)
          else for (const [of, value] of reading) this.inc(of, value)
        },
      })
    },
    remove: (name) => registry.removeSingleMetric(name),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  }
}

/** prom-client's histogram with values that are counted elsewhere. */
class ResponseTimes extends Histogram {
  private readonly requests: RequestTallies
  /** One without values: name, help and type as prom-client writes them. */
  private readonly empty: Histogram

  constructor(requests: RequestTallies) {
    const definition = {
      name: 'synapse_http_server_response_time_seconds',
      help: 'Seconds until an answer was there; `servlet` is the declared path',
      registers: [],
    }
    super(definition)
    this.requests = requests
    this.empty = new Histogram(definition)
  }

  override async get(): Promise<MetricObjectWithValues<MetricValueWithName<string>>> {
    const described = await this.empty.get()
    const { name } = described
    const values: MetricValueWithName<string>[] = []
    for (const { method, path, byStatus } of this.requests.used()) {
      for (const [code, { counts, count, seconds }] of byStatus) {
        const labels = { method, servlet: path, tag: '', code }
        let below = 0
        for (const [i, bound] of responseTimeBounds.entries()) {
          below += counts[i] ?? 0
          values.push({ metricName: `${name}_bucket`, labels: { ...labels, le: bound }, value: below })
        }
        values.push({ metricName: `${name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count })
        values.push({ metricName: `${name}_sum`, labels, value: seconds })
        values.push({ metricName: `${name}_count`, labels, value: count })
      }
    }
    return { ...described, values }
  }

  /** What the registry asks in place of `get` where it is there, as it is in prom-client's own classes. */
  getForPromString(): Promise<MetricObjectWithValues<MetricValueWithName<string>>> {
    return this.get()
  }
}
