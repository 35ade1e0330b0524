import { fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { HttpClient } from '../../support/http-client.ts'
import { drive, percentile, processCpuMs } from '../measure.ts'
import type { Scenario } from '../scenario.ts'

const requests = 40_000

/** What this machine makes of a route that does nothing: the other figures are to be read beside it. */
export const baseline: Scenario = async () => {
  const child = fork(path.join(import.meta.dirname, '../bare-route.ts'), { execArgv: ['--max-semi-space-size=8'] })
  try {
    const [port] = (await once(child, 'message')) as [number]
    const http = new HttpClient('127.0.0.1', port)
    const ask = async () => {
      await http.request('GET', '/_matrix/client/v3/sync?timeout=0&since=s1_1000_1000_1000_1795476969814_0_0', 'token')
    }
    await drive(4_000, 16, ask)
    const before = await processCpuMs(child.pid ?? 0)
    const sample = await drive(requests, 16, ask)
    const after = await processCpuMs(child.pid ?? 0)
    http.close()
    return [
      {
        scenario: 'a bare Hono route, for comparison',
        count: requests,
        rate: (requests * 1000) / sample.elapsedMs,
        p50Ms: percentile(sample.latenciesMs, 50),
        p99Ms: percentile(sample.latenciesMs, 99),
        serverCpuMs: (after - before) / requests,
      },
    ]
  } finally {
    child.kill()
  }
}
