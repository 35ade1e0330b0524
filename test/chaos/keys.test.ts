/** Messages to devices and one-time keys while what handles them dies, in short. `npm run chaos -- --keys` does as many as are
 *  wanted, and all faults. */
import { expect, test } from 'vitest'
import { testBundles } from '../support/bundles.ts'
import { redisInstalled } from '../support/redis.ts'
import { runKeysChaos } from './run.ts'

const wanted = 3_000
const faults = [
  'a handler is killed',
  'a handler is frozen',
  'a main is killed, another stands by',
  'a main is frozen, another stands by',
  'all are stopped in order, one after the other',
  'Redis is killed and comes back empty',
  'Redis is emptied',
]

test.runIf(redisInstalled)(
  'client-server-api/#send-to-device-messaging and #one-time-and-fallback-keys: nothing is lost, doubled, reordered or given twice',
  { timeout: 300_000 },
  async () => {
    const said: string[] = []
    const dist = await testBundles()
    const report = await runKeysChaos({
      seed: 20_271,
      faults,
      dist,
      messages: wanted,
      claims: wanted,
      pauseMs: 100,
      say: (line) => said.push(line),
    }).catch((error: unknown) => {
      throw new Error(`${said.join('\n')}\n${String(error)}`)
    })
    expect(said).toHaveLength(faults.length)
    expect(report.messages).toBeGreaterThanOrEqual(wanted)
    expect(report.claims).toBeGreaterThanOrEqual(wanted)
    // Answers were lost on purpose, too.
    expect(report.lost).toBeGreaterThan(10)
  },
)
