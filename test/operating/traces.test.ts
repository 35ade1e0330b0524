/** One request on its way through the processes: one trace, and one id in the logs of all. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { type OtlpCollector, type OtlpSpan, otlpCollector } from '../support/otlp-collector.ts'
import { redisInstalled } from '../support/redis.ts'
import { type Account, type TestRoles, testRoles } from '../support/roles.ts'

let collector: OtlpCollector
let roles: TestRoles
let alice: Account

beforeAll(async () => {
  if (!redisInstalled) return
  collector = await otlpCollector()
  roles = await testRoles({ handlers: { client: 1, sync: 1 }, config: { tracing: { otlp_url: collector.url } } })
  alice = await roles.register('alice')
})
afterAll(async () => {
  await roles?.close()
  collector?.close()
})

test.runIf(redisInstalled)('a trace goes from the edge over a handler to main, with one request id', async () => {
  const { spans } = collector
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
  expect(JSON.stringify(collector.spans)).not.toContain(secret)
})
