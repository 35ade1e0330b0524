/** Hurts an installation under load, one fault after the other, and holds it to what it promised. */
import { setTimeout as sleep } from 'node:timers/promises'
import { seeded } from '../support/random.ts'
import type { TestRoles } from '../support/roles.ts'
import { type Fault, faults } from './faults.ts'
import { startInstallation } from './installation.ts'
import { type KeysReport, startKeysLoad } from './keys-load.ts'
import { type Load, type Report, startLoad } from './load.ts'

export interface ChaosOptions {
  readonly seed: number
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

/** Messages in rooms: stops after the fault during which `forMs` milliseconds are over. */
export function runChaos(options: ChaosOptions & { readonly forMs: number }): Promise<Report> {
  const { seed } = options
  let endMs = Number.POSITIVE_INFINITY
  const start = async (roles: TestRoles) => {
    const people = []
    for (let i = 0; i < peopleCount; i++) people.push(await roles.register(`chaos${i}`))
    const load = await startLoad({ baseUrl: roles.url, people, rooms: roomsCount, seed, pauseMs: 20 })
    endMs = performance.now() + options.forMs
    return load
  }
  return hurt(options, start, () => performance.now() >= endMs)
}

/** Messages to devices and claims of keys: stops when there were enough of both, and each fault was there. */
export function runKeysChaos(
  options: ChaosOptions & { readonly messages: number; readonly claims: number; readonly pauseMs: number },
): Promise<KeysReport> {
  return hurt(
    options,
    (roles) => startKeysLoad(roles, options),
    (load, chosen, hurts) => load.enough && hurts >= chosen.length,
  )
}

/** Throws with what was lost, doubled, reordered or not explained. */
async function hurt<R>(
  options: ChaosOptions,
  start: (roles: TestRoles) => Promise<Load<R>>,
  ends: (load: Load<R>, chosen: readonly Fault[], hurts: number) => boolean,
): Promise<R> {
  const { seed, say } = options
  const random = seeded(seed)
  const chosen = options.faults ? options.faults.map(faultNamed) : faults
  const installation = await startInstallation({
    ...(options.dist === undefined ? {} : { dist: options.dist }),
    output: options.verbose ? 'prefixed' : 'ignore',
  })
  try {
    const load = await start(installation.roles)
    const { refused, strange } = load.requests
    const total = (): number => [...refused.values()].reduce((sum, count) => sum + count, 0)

    let round: Fault[] = []
    for (let hurts = 0; !ends(load, chosen, hurts); hurts++) {
      if (round.length === 0) round = shuffled(chosen, random)
      const fault = round.pop()
      if (!fault) break
      const refusedBefore = total()
      const beganMs = performance.now()
      await fault.run(installation, random)
      const hurtMs = performance.now() - beganMs
      const recoveredMs = await progress(load, fault)
      const refusals = total() - refusedBefore
      say(
        `${fault.name}: ${(hurtMs / 1000).toFixed(1)} s, ${refusals} requests refused, working ${(recoveredMs / 1000).toFixed(1)} s after`,
      )
      if (strange.length > 0) throw new Error(`${fault.name}:\n${strange.slice(0, 10).join('\n')}`)
      if (!fault.mayRefuse && refusals > 0) throw new Error(`${fault.name}: ${refusals} requests were refused`)
      await sleep(restMs)
    }
    return await load.finish()
  } finally {
    await installation.close()
  }
}

function faultNamed(name: string): Fault {
  const fault = faults.find((one) => one.name === name)
  if (!fault) throw new Error(`there is no fault ${name}`)
  return fault
}

/** Until each sender got something acknowledged, and then some. */
async function progress(load: Load<unknown>, fault: Fault): Promise<number> {
  const beganMs = performance.now()
  const before = load.acknowledged
  while (load.acknowledged < before + 2 * load.lanes) {
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
