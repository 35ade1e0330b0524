/** `ganglion resolve-state` beside Synapse's own modules, on ten thousand forked rooms of versions 1 to 12: which rooms, a
 *  seed says, another one each time. GANGLION_FORKS_SEED repeats a run; a room that the two resolve differently is left in
 *  node_modules/.cache/state-resolution, as small as it can be made, as input for either of them. */
import { randomInt } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import { synapseInstalled, synapsePython } from '../synapse/installed.ts'
import { type ForkCase, forkCase, roomVersions } from './fork-wars.ts'
import { type Resolver, resolver } from './resolver.ts'
import { shrunk } from './shrink.ts'

const root = path.resolve(import.meta.dirname, '../..')
const ganglion = ['infra/cli/ganglion.ts', 'resolve-state']
const synapse = ['test/state-resolution/synapse-resolver.py']
const rooms = 10_000
const batch = 500
const seed = Number(process.env.GANGLION_FORKS_SEED ?? randomInt(1_000_000))

test.runIf(synapseInstalled)(
  `${rooms} forked rooms are resolved as by Synapse (seed ${seed})`,
  async () => {
    const ours = resolver(process.execPath, ganglion.map(fromRoot))
    const theirs = resolver(synapsePython, synapse.map(fromRoot))
    try {
      let resolved = 0
      let conflicted = 0
      for (let from = 0; from < rooms; from += batch) {
        const cases = Array.from({ length: Math.min(batch, rooms - from) }, (_, i) => forkCase(seed, from + i))
        const lines = cases.map((one) => JSON.stringify(one))
        const [our, their] = await Promise.all([ours.answers(lines), theirs.answers(lines)])
        for (const [i, one] of cases.entries()) {
          if (!isSameState(our[i], their[i])) await report(one, { ours, theirs })
          resolved++
          if (new Set(one.state_sets.map((ids) => [...ids].sort().join())).size > 1) conflicted++
        }
      }
      console.log(`${resolved} rooms, ${conflicted} of them in conflict`)
      expect(resolved).toBe(rooms)
      // Else this compares nothing.
      expect(conflicted).toBeGreaterThan(rooms * 0.95)
    } finally {
      await Promise.all([ours.close(), theirs.close()])
    }
  },
  400_000,
)

test('a seed says which rooms, of all versions', () => {
  const versions = new Set<string>()
  for (let number = 0; number < 24; number++) {
    const one = forkCase(7, number)
    expect(forkCase(7, number)).toEqual(one)
    versions.add(one.room_version)
  }
  expect([...versions].sort()).toEqual([...roomVersions].sort())
  expect(forkCase(8, 0)).not.toEqual(forkCase(7, 0))
})

test('a case is made as small as what is wrong with it allows', async () => {
  const whole = forkCase(7, 11)
  const [create, culprit] = [whole.state_sets[0]?.[0], whole.state_sets[0]?.at(-1)]
  const smallest = await shrunk(whole, async ({ state_sets }) => state_sets[0]?.includes(String(culprit)) === true)
  expect(smallest.state_sets).toEqual([[culprit], []])
  expect(Object.keys(smallest.events)).toEqual(expect.arrayContaining([create, culprit]))
  expect(Object.keys(smallest.events).length).toBeLessThan(Object.keys(whole.events).length)
})

function fromRoot(argument: string): string {
  return argument.includes('/') ? path.join(root, argument) : argument
}

/** An error on either side is a difference, whatever the other says. */
function isSameState(ours: string | undefined, theirs: string | undefined): boolean {
  const [our, their] = [JSON.parse(ours ?? '{}').state, JSON.parse(theirs ?? '{}').state]
  return our !== undefined && JSON.stringify(our) === JSON.stringify(their)
}

async function report(one: ForkCase, { ours, theirs }: Record<'ours' | 'theirs', Resolver>): Promise<never> {
  const both = async (smaller: ForkCase) => {
    const line = JSON.stringify(smaller)
    const answers = await Promise.all([ours.answers([line]), theirs.answers([line])])
    return answers.map(([answer]) => answer)
  }
  const isError = (answer: string | undefined) => 'error' in JSON.parse(answer ?? '{}')
  const wasError = (await both(one)).map(isError)
  const smallest = await shrunk(one, async (smaller) => {
    const answers = await both(smaller)
    return !isSameState(answers[0], answers[1]) && answers.every((answer, i) => isError(answer) === wasError[i])
  })
  const [our, their] = await both(smallest)
  const folder = path.join(root, 'node_modules/.cache/state-resolution')
  const file = path.join(folder, `${one.id}.jsonl`)
  mkdirSync(folder, { recursive: true })
  writeFileSync(file, `${JSON.stringify(smallest)}\n`)
  const replay = (command: string) => `${command} < ${path.relative(root, file)}`
  throw new Error(
    [
      `room ${one.id}, version ${one.room_version}, ${Object.keys(smallest.events).length} events, is resolved differently`,
      `${replay('npm run -s ganglion -- resolve-state')}\n  ${our}`,
      `${replay(`node_modules/.cache/synapse/bin/python ${synapse[0]}`)}\n  ${their}`,
    ].join('\n'),
  )
}
