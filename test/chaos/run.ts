/** Hurts an installation under load, one fault after the other, and holds it to what it promised. */
import { setTimeout as sleep } from 'node:timers/promises'
import { seeded } from '../support/random.ts'
import { type Fault, faults } from './faults.ts'
import { startInstallation } from './installation.ts'
import { type Report, startLoad } from './load.ts'

export interface ChaosOptions {
  readonly seed: number
  /** Stops after the fault during which this many milliseconds are over. */
  readonly forMs: number
  /** Default: all, in an order that follows from the seed, again and again. */
  readonly faults?: readonly string[]
  /** Folder of the bundles; without it the sources run. */
  readonly dist?: string
  /** Shows what the processes log. */
  readonly verbose?: boolean
  readonly say: (line: string) => void
}

const peopleCount = 6
const roomsCount = 3
/** Between faults, so that the next one meets a healthy installation. */
const restMs = 1_500

/** Throws with what was lost, doubled, reordered or not explained. */
export async function runChaos(options: ChaosOptions): Promise<Report> {
  const { seed, forMs, say } = options
  const random = seeded(seed)
  const chosen = options.faults ? faults.filter(({ name }) => options.faults?.includes(name)) : faults
  const installation = await startInstallation({
    ...(options.dist === undefined ? {} : { dist: options.dist }),
    output: options.verbose ? 'prefixed' : 'ignore',
  })
  try {
    const people = []
    for (let i = 0; i < peopleCount; i++) people.push(await installation.roles.register(`chaos${i}`))
    const baseUrl = installation.roles.url
    const load = await startLoad({ baseUrl, people, rooms: roomsCount, seed, pauseMs: 20 })
    const total = (): number => [...load.refused.values()].reduce((sum, count) => sum + count, 0)

    const endMs = performance.now() + forMs
    let round: Fault[] = []
    while (performance.now() < endMs) {
      if (round.length === 0) round = shuffled(chosen, random)
      const fault = round.pop()
      if (!fault) break
      const refusedBefore = total()
      const beganMs = performance.now()
      await fault.run(installation, random)
      const hurtMs = performance.now() - beganMs
      const recoveredMs = await progress(load, fault)
      const refused = total() - refusedBefore
      say(
        `${fault.name}: ${(hurtMs / 1000).toFixed(1)} s, ${refused} requests refused, working ${(recoveredMs / 1000).toFixed(1)} s after`,
      )
      if (load.strange.length > 0) throw new Error(`${fault.name}:\n${load.strange.slice(0, 10).join('\n')}`)
      if (!fault.mayRefuse && refused > 0) throw new Error(`${fault.name}: ${refused} requests were refused`)
      await sleep(restMs)
    }
    return await load.finish()
  } finally {
    await installation.close()
  }
}

/** Until each sender got something acknowledged, and then some. */
async function progress(load: { readonly acknowledged: number }, fault: Fault): Promise<number> {
  const beganMs = performance.now()
  const before = load.acknowledged
  while (load.acknowledged < before + 2 * peopleCount) {
    if (performance.now() - beganMs > fault.recoversWithinMs) {
      throw new Error(`${fault.name}: nothing was acknowledged within ${fault.recoversWithinMs} ms after it`)
    }
    await sleep(50)
  }
  return performance.now() - beganMs
}

function shuffled(list: readonly Fault[], random: { below(n: number): number }): Fault[] {
  const shuffling = [...list]
  for (let i = shuffling.length - 1; i > 0; i--) {
    const j = random.below(i + 1)
    const [a, b] = [shuffling[i], shuffling[j]]
    if (a && b) {
      shuffling[i] = b
      shuffling[j] = a
    }
  }
  return shuffling
}
