/** Takes OpenTelemetry spans as a collector does: OTLP over HTTP, in JSON. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface OtlpSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly kind: number
  readonly attributes: readonly { readonly key: string; readonly value: Record<string, unknown> }[]
  /** `ganglion.role` of the process that sent it. */
  readonly role: string
}

interface ResourceSpans {
  readonly resource: {
    readonly attributes: readonly { readonly key: string; readonly value: { stringValue?: string } }[]
  }
  readonly scopeSpans: readonly { readonly spans: readonly Omit<OtlpSpan, 'role'>[] }[]
}

export interface OtlpCollector {
  readonly url: string
  /** All that came, oldest first. */
  readonly spans: readonly OtlpSpan[]
  /** Paths that something was sent to. */
  readonly paths: ReadonlySet<string>
  close(): void
}

export async function otlpCollector(): Promise<OtlpCollector> {
  const spans: OtlpSpan[] = []
  const paths = new Set<string>()
  const server = createServer((request, response) => {
    paths.add(request.url ?? '')
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString()) as { resourceSpans: ResourceSpans[] }
      for (const { resource, scopeSpans } of resourceSpans) {
        const role = resource.attributes.find(({ key }) => key === 'ganglion.role')?.value.stringValue ?? ''
        spans.push(...scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, role }))))
      }
      response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    paths,
    close() {
      server.close()
      server.closeAllConnections()
    },
  }
}
