/** One request on its way through the processes: one trace, and one id in the logs of all. */
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { redisInstalled } from '../support/redis.ts'
import { type Account, type TestRoles, testRoles } from '../support/roles.ts'

interface OtlpSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly role: string
  readonly attributes: readonly { readonly key: string; readonly value: Record<string, unknown> }[]
}

const spans: OtlpSpan[] = []
let collector: Server
let roles: TestRoles
let alice: Account

beforeAll(async () => {
  if (!redisInstalled) return
  collector = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString()) as {
        resourceSpans: {
          resource: { attributes: { key: string; value: { stringValue?: string } }[] }
          scopeSpans: { spans: Omit<OtlpSpan, 'role'>[] }[]
        }[]
      }
      for (const { resource, scopeSpans } of resourceSpans) {
        const role = resource.attributes.find(({ key }) => key === 'ganglion.role')?.value.stringValue ?? ''
        spans.push(...scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, role }))))
      }
      response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve))
  const otlp_url = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`
  roles = await testRoles({ handlers: { client: 1, sync: 1 }, config: { tracing: { otlp_url } } })
  alice = await roles.register('alice')
})
afterAll(async () => {
  await roles?.close()
  collector?.close()
})

test.runIf(redisInstalled)('a trace goes from the edge over a handler to main, with one request id', async () => {
  const headers = { Authorization: `Bearer ${alice.access_token}` }
  const made = await fetch(`${roles.url}/_matrix/client/v3/createRoom`, { method: 'POST', headers, body: '{}' })
  expect(made.status).toBe(200)
  const ofCommand = () => spans.find(({ role, name }) => role === 'main' && name.includes('createRoom'))
  await expect.poll(ofCommand, { timeout: 15_000 }).toBeDefined()
  const { traceId } = ofCommand() as OtlpSpan
  const inTrace = (role: string) => spans.filter((span) => span.traceId === traceId && span.role === role)
  await expect.poll(() => inTrace('edge').length > 0 && inTrace('client').length > 0, { timeout: 15_000 }).toBe(true)
  const ids = new Set(
    spans
      .filter((span) => span.traceId === traceId)
      .flatMap(({ attributes }) => attributes.filter(({ key }) => key === 'ganglion.request_id'))
      .map(({ value }) => value.stringValue),
  )
  expect(ids.size).toBe(1)

  // Each span hangs on one before it, up to the edge's, which began it all.
  const [first, ...others] = inTrace('edge')
  expect(others).toEqual([])
  expect(first?.parentSpanId ?? '').toBe('')
  const byId = new Map(spans.filter((span) => span.traceId === traceId).map((span) => [span.spanId, span]))
  for (const span of byId.values()) {
    let at: OtlpSpan | undefined = span
    for (let steps = 0; at && at !== first && steps < 10; steps++) at = byId.get(at.parentSpanId ?? '')
    expect(at, `${span.role}: ${span.name}`).toBe(first)
  }
  expect(JSON.stringify(spans)).not.toContain(alice.access_token)
})

test.runIf(redisInstalled)('the secrets that processes share are in no span', () => {
  const secret = /"?secret"?: *"([^"]+)"/.exec(readFileSync(roles.configPath, 'utf8'))?.[1]
  expect(secret).toBeDefined()
  expect(JSON.stringify(spans)).not.toContain(secret)
})
