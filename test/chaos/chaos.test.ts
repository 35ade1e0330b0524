/** Each fault once, under load. `npm run chaos` goes on for as long as is wanted. */
import { expect, test } from 'vitest'
import { redisInstalled } from '../support/redis.ts'
import { faults } from './faults.ts'
import { runChaos } from './run.ts'

const forMs = Number(process.env.GANGLION_CHAOS_SECONDS ?? 90) * 1_000

test.runIf(redisInstalled)('faults lose, double and reorder nothing', { timeout: forMs + 300_000 }, async () => {
  const said: string[] = []
  const report = await runChaos({ seed: 20_262, forMs, say: (line) => said.push(line) }).catch((error: unknown) => {
    throw new Error(`${said.join('\n')}\n${String(error)}`)
  })
  expect(report.acknowledged).toBeGreaterThan(100)
  expect(said.length).toBeGreaterThan(Math.min(5, faults.length))
  console.log(said.join('\n'))
})
