/** Sends spans to an OpenTelemetry collector, by OTLP over HTTP in JSON. The SDK would do the same with some fifty packages
 *  more. What a collector does not take, or is too much for it, is dropped: traces never hold up requests.
 *  https://opentelemetry.io/docs/specs/otlp/#otlphttp */
import { SpanKind as ApiKind, SpanStatusCode } from '@opentelemetry/api'
import type { Clock } from '../clock.ts'
import type { Logger } from '../logging.ts'
import { version } from '../version.ts'
import type { Attribute, SpanKind } from './tracer.ts'

export interface EndedSpan {
  readonly trace_id: string
  readonly span_id: string
  readonly parent_id: string | undefined
  readonly name: string
  readonly kind: SpanKind
  /** Milliseconds since the epoch, with fractions. */
  readonly startTs: number
  readonly endTs: number
  readonly attributes: ReadonlyMap<string, Attribute>
  readonly failed: boolean
}

export interface SpanExporter {
  add(span: EndedSpan): void
  /** Sends what is waiting. Never rejects. */
  close(): Promise<void>
}

export interface OtlpOptions {
  /** Below it, `/v1/traces`. */
  readonly url: string
  readonly role: string
  readonly serverName: string
  readonly instance: string
  readonly clock: Clock
  readonly log: Pick<Logger, 'warn'>
}

const sendEveryMs = 2_000
const spansPerRequest = 512
const queueMax = 8_192
const timeoutMs = 10_000
const warnEveryMs = 60_000
/** On the wire, 0 stands for none: each kind is one more than in the API. */
const kinds = { internal: ApiKind.INTERNAL + 1, server: ApiKind.SERVER + 1, client: ApiKind.CLIENT + 1 } as const

export function createOtlpExporter(options: OtlpOptions): SpanExporter {
  const { clock, log } = options
  const url = new URL('v1/traces', options.url.endsWith('/') ? options.url : `${options.url}/`)
  const resource = {
    attributes: attributesJson([
      ['service.name', 'ganglion'],
      ['service.namespace', options.serverName],
      ['service.version', version],
      ['service.instance.id', options.instance],
      ['ganglion.role', options.role],
      ['process.pid', process.pid],
    ]),
  }
  let queue: EndedSpan[] = []
  let dropped = 0
  let warnedTs = Number.NEGATIVE_INFINITY
  let sending: Promise<void> | undefined
  let cancel: (() => void) | undefined

  function warn(fields: object): void {
    if (clock.now() - warnedTs < warnEveryMs) return
    warnedTs = clock.now()
    log.warn({ ...fields, dropped }, 'the collector of traces does not take spans')
  }

  async function send(spans: readonly EndedSpan[]): Promise<void> {
    const scope = { name: 'ganglion', version }
    const body = JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ scope, spans: spans.map(spanJson) }] }] })
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body,
        signal: AbortSignal.timeout(timeoutMs),
      })
      await response.body?.cancel()
      if (response.ok) return
      dropped += spans.length
      warn({ status: response.status })
    } catch (err) {
      dropped += spans.length
      warn({ err })
    }
  }

  async function sendAll(): Promise<void> {
    while (queue.length > 0) await send(queue.splice(0, spansPerRequest))
  }

  function start(): void {
    cancel = undefined
    sending ??= sendAll().finally(() => {
      sending = undefined
      if (queue.length > 0) start()
    })
  }

  return {
    add(span) {
      if (queue.length >= queueMax) {
        dropped++
        return
      }
      queue.push(span)
      if (queue.length >= spansPerRequest) {
        cancel?.()
        start()
      } else cancel ??= clock.after(sendEveryMs, start)
    },
    async close() {
      cancel?.()
      await sending
      await sendAll()
      queue = []
    },
  }
}

function spanJson(span: EndedSpan): object {
  return {
    traceId: span.trace_id,
    spanId: span.span_id,
    ...(span.parent_id === undefined ? {} : { parentSpanId: span.parent_id }),
    name: span.name,
    kind: kinds[span.kind],
    startTimeUnixNano: nanos(span.startTs),
    endTimeUnixNano: nanos(span.endTs),
    attributes: attributesJson(span.attributes),
    status: span.failed ? { code: SpanStatusCode.ERROR } : {},
  }
}

/** In 64 bits, which JSON has as text. */
function nanos(ts: number): string {
  return (BigInt(Math.round(ts * 1000)) * 1000n).toString()
}

function attributesJson(attributes: Iterable<readonly [string, Attribute]>): object[] {
  return [...attributes].map(([key, value]) => ({ key, value: valueJson(value) }))
}

function valueJson(value: Attribute): object {
  if (typeof value === 'string') return { stringValue: value }
  if (typeof value === 'boolean') return { boolValue: value }
  return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value }
}
