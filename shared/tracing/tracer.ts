/** Traces: spans from the edge over handlers to main, joined by W3C's `traceparent`. Where no collector is configured
 *  there is no tracer, and nothing of this costs anything. */
import type { IncomingHttpHeaders } from 'node:http'

export type Attribute = string | number | boolean

export type SpanKind = 'server' | 'client' | 'internal'

/** One piece of work with a beginning and an end. */
export interface Span {
  /** May be set until the end, when more is known. */
  name: string
  /** Names follow OpenTelemetry's semantic conventions where they have one. */
  set(attribute: string, value: Attribute): void
  /** A span inside of this one. */
  child(name: string, kind: SpanKind): Span
  /** For the header of a request that belongs to this span. */
  readonly traceparent: string
  /** Once; what comes later is not recorded. */
  end(outcome: 'ok' | 'error'): void
}

export interface Tracer {
  /** The span of a request that came in; undefined where this trace is not recorded. `trusted`: `traceparent` is
   *  believed. */
  startServerSpan(headers: IncomingHttpHeaders, trusted: boolean): Span | undefined
  /** Sends what is waiting; resolves when that is done or has failed. */
  close(): Promise<void>
}

export const traceparentHeader = 'traceparent'
