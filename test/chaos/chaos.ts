/** `npm run chaos -- --minutes 10 --seed 7`: faults under load for as long as is wanted. `--fault NAME` (repeatable) keeps to
 *  some, `--source` runs from source, `--verbose` shows what the processes log. */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { faults } from './faults.ts'
import { runChaos } from './run.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string', default: String(Date.now() % 100_000) },
    fault: { type: 'string', multiple: true },
    source: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
})
const names = faults.map(({ name }) => name)
const unknown = (values.fault ?? []).filter((name) => !names.includes(name))
if (unknown.length > 0) {
  console.error(`no fault ${unknown.join(', ')}; there are:\n  ${names.join('\n  ')}`)
  process.exit(2)
}
const root = path.resolve(import.meta.dirname, '../..')
if (!values.source) {
  const built = spawnSync(process.execPath, ['infra/build/build.ts'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (built.status !== 0) process.exit(built.status ?? 1)
}
const seed = Number(values.seed)
console.log(`seed ${seed}`)
const { acknowledged, delivered, refused, slowestMs } = await runChaos({
  seed,
  forMs: Number(values.minutes) * 60_000,
  ...(values.fault ? { faults: values.fault } : {}),
  ...(values.source ? {} : { dist: path.join(root, 'dist') }),
  verbose: values.verbose,
  say: console.log,
})
const told = [...refused].map(([status, count]) => `${count} times ${status}`).join(', ')
console.log(
  `${acknowledged} sends acknowledged, ${delivered} deliveries, each once and in order; ${told || 'nothing refused'}; slowest ${Math.round(slowestMs)} ms`,
)
