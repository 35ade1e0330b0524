/** Whatever test code hears from servers: by any fetch, by the tests' own HTTP client, and from an app in this process. What
 *  is written to sockets by hand, and what other processes ask, is not heard. */
import { subscribe } from 'node:diagnostics_channel'
import { brotliDecompressSync, gunzipSync, inflateSync } from 'node:zlib'
import type { Hono } from 'hono'
import { type AnsweredRequest, answeredRequests } from '../support/http-client.ts'
import type { Exchange } from './judge.ts'

export interface Watcher<Mark> {
  /** Called at the start of a request; undefined where its answer is nobody's concern. */
  begins(target: string): Mark | undefined
  answered(mark: Mark, exchange: Exchange): void
}

interface FetchRequest {
  readonly method: string
  /** With the query. */
  readonly path: string
}
interface FetchResponse {
  readonly statusCode: number
  /** Names and values in turn. */
  readonly headers: readonly Uint8Array[]
}

/** Follows fetch (this process's own, and other copies of undici) by its diagnostics, so that neither the answer nor the
 *  pace at which it is read is another. What is broken off is no answer. */
export function watchFetch<Mark>(watcher: Watcher<Mark>): void {
  const underWay = new WeakMap<object, { readonly mark: Mark; response?: FetchResponse; readonly body: Uint8Array[] }>()

  subscribe('undici:request:create', (message) => {
    const { request } = message as { request: FetchRequest }
    const mark = watcher.begins(request.path)
    if (mark !== undefined) underWay.set(request, { mark, body: [] })
  })
  subscribe('undici:request:headers', (message) => {
    const { request, response } = message as { request: FetchRequest; response: FetchResponse }
    const exchange = underWay.get(request)
    if (exchange) exchange.response = response
  })
  subscribe('undici:request:bodyChunkReceived', (message) => {
    const { request, chunk } = message as { request: FetchRequest; chunk: Uint8Array }
    underWay.get(request)?.body.push(chunk)
  })
  subscribe('undici:request:trailers', (message) => {
    const { request } = message as { request: FetchRequest }
    const exchange = underWay.get(request)
    if (!exchange?.response) return
    underWay.delete(request)
    const headers = headersOf(exchange.response.headers)
    watcher.answered(exchange.mark, {
      method: request.method,
      target: request.path,
      status: exchange.response.statusCode,
      headers,
      body: unpacked(headers.get('content-encoding'), Buffer.concat(exchange.body)).toString('utf8'),
    })
  })
}

/** What is heard here is as it was on the wire; a proxy may have packed it. */
function unpacked(encoding: string | undefined, bytes: Buffer): Buffer {
  if (bytes.length === 0) return bytes
  switch (encoding) {
    case 'gzip':
      return gunzipSync(bytes)
    case 'deflate':
      return inflateSync(bytes)
    case 'br':
      return brotliDecompressSync(bytes)
    default:
      return bytes
  }
}

function headersOf(raw: readonly Uint8Array[]): ReadonlyMap<string, string> {
  const headers = new Map<string, string>()
  for (let i = 0; i + 1 < raw.length; i += 2) headers.set(latin1(raw[i]).toLowerCase(), latin1(raw[i + 1]))
  return headers
}

const latin1 = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString('latin1')

/** Follows test/support/http-client.ts. */
export function watchHttpClient<Mark>(watcher: Watcher<Mark>): void {
  answeredRequests.subscribe((message) => {
    const { method, target, status, body } = message as AnsweredRequest
    const mark = watcher.begins(target)
    if (mark !== undefined) watcher.answered(mark, { method, target, status, headers: undefined, body })
  })
}

/** Follows `request` of every app that is made, by which tests ask an app in their own process. */
export function watchedHono<Mark>(original: typeof Hono, watcher: Watcher<Mark>): typeof Hono {
  return new Proxy(original, {
    construct(target, options, newTarget) {
      const app = Reflect.construct(target, options, newTarget) as Hono
      const ask = app.request
      app.request = async (...asked) => {
        const [input, init] = asked
        const url = new URL(input instanceof Request ? input.url : String(input), 'http://app')
        const mark = watcher.begins(`${url.pathname}${url.search}`)
        const response = await ask(...asked)
        if (mark === undefined) return response
        const { status, headers } = response
        const bytes = Buffer.from(await response.arrayBuffer())
        watcher.answered(mark, {
          method: init?.method ?? (input instanceof Request ? input.method : 'GET'),
          target: `${url.pathname}${url.search}`,
          status,
          headers: new Map(headers),
          body: bytes.toString('utf8'),
        })
        return new Response(bytes.length === 0 ? null : bytes, { status, headers })
      }
      return app
    },
  })
}
