/** Makes spans and hands them to an exporter when they end. Ids and sampling follow W3C's Trace Context, so that what
 *  stands before and behind us may be instrumented by anything. https://www.w3.org/TR/trace-context/ */
import { randomBytes } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isSpanContextValid, TraceFlags } from '@opentelemetry/api'
import type { EndedSpan, SpanExporter } from './otlp-exporter.ts'
import type { Attribute, Span, SpanKind, Tracer } from './tracer.ts'
import { traceparentHeader } from './tracer.ts'

export interface ParentSpan {
  readonly trace_id: string
  readonly span_id: string
  readonly sampled: boolean
}

/** What the header says; undefined for what is none. */
export function parseTraceparent(header: string | string[] | undefined): ParentSpan | undefined {
  if (typeof header !== 'string') return undefined
  const [, versionHex, trace_id, span_id, flags, rest] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(header) ?? []
  if (trace_id === undefined || span_id === undefined || flags === undefined) return undefined
  // Version ff is none, and version 00 has these four parts alone.
  if (versionHex === 'ff' || (versionHex === '00' && rest !== undefined)) return undefined
  const traceFlags = Number.parseInt(flags, 16)
  if (!isSpanContextValid({ traceId: trace_id, spanId: span_id, traceFlags })) return undefined
  return { trace_id, span_id, sampled: (traceFlags & TraceFlags.SAMPLED) !== 0 }
}

export function createTracer(options: {
  readonly exporter: SpanExporter
  /** Share of the traces that begin here which is recorded; who began a trace elsewhere decides for it. */
  readonly sampleRatio: number
}): Tracer {
  const { exporter, sampleRatio } = options
  return {
    startServerSpan(headers: IncomingHttpHeaders, trusted: boolean) {
      const parent = trusted ? parseTraceparent(headers[traceparentHeader]) : undefined
      if (parent) {
        if (!parent.sampled) return undefined
        return new RecordedSpan(exporter, parent.trace_id, parent.span_id, 'server')
      }
      if (Math.random() >= sampleRatio) return undefined
      return new RecordedSpan(exporter, randomBytes(16).toString('hex'), undefined, 'server')
    },
    close: () => exporter.close(),
  }
}

/** Milliseconds since the epoch, with fractions; differences are those of a clock that nobody sets. */
function now(): number {
  return performance.timeOrigin + performance.now()
}

class RecordedSpan implements Span {
  name = ''
  private readonly exporter: SpanExporter
  private readonly trace_id: string
  private readonly span_id = randomBytes(8).toString('hex')
  private readonly parent_id: string | undefined
  private readonly kind: SpanKind
  private readonly startTs = now()
  private readonly attributes = new Map<string, Attribute>()
  private ended = false

  constructor(exporter: SpanExporter, trace_id: string, parent_id: string | undefined, kind: SpanKind) {
    this.exporter = exporter
    this.trace_id = trace_id
    this.parent_id = parent_id
    this.kind = kind
  }

  get traceparent(): string {
    return `00-${this.trace_id}-${this.span_id}-01`
  }

  set(attribute: string, value: Attribute): void {
    this.attributes.set(attribute, value)
  }

  child(name: string, kind: SpanKind): Span {
    const span = new RecordedSpan(this.exporter, this.trace_id, this.span_id, kind)
    span.name = name
    return span
  }

  end(outcome: 'ok' | 'error'): void {
    if (this.ended) return
    this.ended = true
    const { trace_id, span_id, parent_id, name, kind, startTs, attributes } = this
    const ended: EndedSpan = {
      trace_id,
      span_id,
      parent_id,
      name,
      kind,
      startTs,
      endTs: now(),
      attributes,
      failed: outcome === 'error',
    }
    this.exporter.add(ended)
  }
}
