/** `npm run chaos -- --minutes 10 --seed 7`: faults under load for as long as is wanted. `npm run chaos -- --keys --messages
 *  100000 --claims 100000`: messages to devices and claims of keys instead, until there were so many of both. `--fault NAME`
 *  (repeatable) keeps to some, `--source` runs from source, `--verbose` shows what the processes log. */
import { spawnSync } from 'node:child_process'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { faults } from './faults.ts'
import { runChaos, runKeysChaos } from './run.ts'

const { values } = parseArgs({
  options: {
    keys: { type: 'boolean', default: false },
    messages: { type: 'string', default: '100000' },
    claims: { type: 'string', default: '100000' },
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
const options = {
  seed,
  ...(values.fault ? { faults: values.fault } : {}),
  ...(values.source ? {} : { dist: path.join(root, 'dist') }),
  verbose: values.verbose,
  say: console.log,
}
const beganMs = performance.now()
console.log(values.keys ? await keys() : await messages())

async function messages(): Promise<string> {
  const report = await runChaos({ ...options, forMs: Number(values.minutes) * 60_000 })
  const { acknowledged, delivered } = report
  return `${acknowledged} sends acknowledged, ${delivered} deliveries, each once and in order; ${told(report)}`
}

async function keys(): Promise<string> {
  const [wanted, claimed] = [Number(values.messages), Number(values.claims)]
  const report = await runKeysChaos({ ...options, messages: wanted, claims: claimed, pauseMs: 0 })
  return [
    `${Math.round((performance.now() - beganMs) / 1000)} s:`,
    `${report.messages} messages to devices, each once and in its sender's order, with ${report.lost} answers lost on their way;`,
    `${report.claims} one-time keys claimed of ${report.uploaded}, none twice, ${report.unheard} with answers that broke off;`,
    `${report.unknown} positions forgotten; ${told(report)}`,
  ].join(' ')
}

function told({ refused, slowestMs }: { refused: ReadonlyMap<number, number>; slowestMs: number }): string {
  const statuses = [...refused].map(([status, count]) => `${count} times ${status}`).join(', ')
  return `${statuses || 'nothing refused'}; slowest ${Math.round(slowestMs)} ms`
}
