/** `npm run bench`: builds the server, starts it on a real PostgreSQL with default durability, drives it over HTTP, checks
 *  every result, and prints a table and JSON. `npm run bench -- sends syncs` runs scenarios by name; `--json FILE` keeps
 *  the figures, `--source` runs from source, `--verbose` shows the server's output, `--profile DIR` keeps
 *  CPU profiles of the server; `--roles` measures all roles as processes, through the edge, `--mains N` of them mains;
 *  `--media` measures media, beside nginx; `--federation` what other servers send. */
import { spawnSync } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { type Bench, startBench } from './environment.ts'
import { residentMb } from './measure.ts'
import { pause, type Row, type Scenario } from './scenario.ts'
import { accounts } from './scenarios/accounts.ts'
import { baseline } from './scenarios/baseline.ts'
import { claims } from './scenarios/claims.ts'
import { crowd } from './scenarios/crowd.ts'
import { delivery } from './scenarios/delivery.ts'
import { directory } from './scenarios/directory.ts'
import { federation } from './scenarios/federation.ts'
import { federationJoin } from './scenarios/federation-join.ts'
import { federationOut } from './scenarios/federation-out.ts'
import { media } from './scenarios/media.ts'
import { polls } from './scenarios/polls.ts'
import { rooms } from './scenarios/rooms.ts'
import { sends } from './scenarios/send.ts'
import { sliding } from './scenarios/sliding.ts'
import { storage } from './scenarios/storage.ts'
import { syncs } from './scenarios/sync.ts'
import { toDevice } from './scenarios/to-device.ts'

const scenarios: Record<string, Scenario> = {
  baseline,
  sends,
  delivery,
  syncs,
  rooms,
  storage,
  'to-device': toDevice,
  claims,
  sliding,
  accounts,
  crowd,
  directory,
  polls,
  media,
  federation,
  'federation-out': federationOut,
  'federation-join': federationJoin,
}
/** Run where they are named: they take minutes, and tens of thousands of file handles or gigabytes of the disk. */
const named = new Set(['polls', 'media', 'federation', 'federation-out', 'federation-join'])

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string' },
    source: { type: 'boolean' },
    verbose: { type: 'boolean' },
    profile: { type: 'string' },
    roles: { type: 'boolean' },
    mains: { type: 'string', default: '1' },
    media: { type: 'boolean' },
    federation: { type: 'boolean' },
  },
})
if (options.media) positionals.push('media')
if (options.federation) positionals.push('federation', 'federation-out', 'federation-join')
const unknown = positionals.filter((name) => !(name in scenarios))
if (unknown.length > 0) {
  console.error(`no scenario ${unknown.join(', ')}; there are ${Object.keys(scenarios).join(', ')}`)
  process.exit(2)
}

if (!options.source) {
  const built = spawnSync(process.execPath, ['infra/build/build.ts'], { stdio: ['ignore', 'ignore', 'inherit'] })
  if (built.status !== 0) process.exit(built.status ?? 1)
}
const program = options.source ? 'functions/monolith/server.ts' : 'dist/monolith.js'
// As the README starts it.
const nodeArguments = options.roles ? [] : ['--max-semi-space-size=8']
if (options.profile) nodeArguments.push('--cpu-prof', `--cpu-prof-dir=${options.profile}`)
const bench = await startBench({
  program,
  output: options.verbose ? 'inherit' : 'ignore',
  nodeArguments,
  media: positionals.includes('media'),
  peers: positionals.some((name) => name.startsWith('federation')),
  ...(options.roles ? { roles: { mains: Number(options.mains), dist: 'dist' } } : undefined),
})
const rows: Row[] = []
try {
  rows.push(single('first start, empty database', bench.firstStartMs))
  rows.push(single('start on existing data', await bench.restart()))
  await pause(2_000)
  rows.push(await memory(bench, 'memory, idle'))
  for (const [name, run] of Object.entries(scenarios)) {
    if (positionals.length > 0 ? !positionals.includes(name) : named.has(name)) continue
    const measured = await run(bench)
    rows.push(...measured)
    console.error(`${name}: done`)
  }
  rows.push(await memory(bench, 'memory, after all'))
  rows.push(single('start on existing data, at the end', await bench.restart()))
} finally {
  await bench.close()
}
print(rows)
if (options.json) await writeFile(options.json, `${JSON.stringify(rows, null, 2)}\n`)
else console.log(JSON.stringify(rows))

function single(scenario: string, ms: number): Row {
  return { scenario, count: 1, p50Ms: ms, p99Ms: ms }
}

async function memory(of: Bench, scenario: string): Promise<Row> {
  const mb = await residentMb(of.processes.map(({ pid }) => pid))
  return { scenario, count: 1, p50Ms: Number.NaN, p99Ms: Number.NaN, note: `${mb.toFixed(0)} MB resident` }
}

function print(all: readonly Row[]): void {
  const figure = (value: number | undefined, digits: number) =>
    value === undefined || Number.isNaN(value) ? '' : value.toFixed(digits)
  const table = all.map((row) => [
    row.scenario,
    String(row.count),
    figure(row.rate, 0),
    figure(row.p50Ms, 1),
    figure(row.p99Ms, 1),
    figure(row.serverCpuMs, 3),
    figure(row.postgresCpuMs, 3),
    figure(row.transactions, 3),
    ...(options.roles ? [figure(row.redisCpuMs, 3), figure(row.redisCommands, 2)] : []),
    row.note ?? '',
  ])
  const redisHead = options.roles ? ['Redis CPU ms', 'Redis commands'] : []
  const head = [
    '',
    'count',
    'per s',
    'p50 ms',
    'p99 ms',
    'server CPU ms',
    'Postgres CPU ms',
    'transactions',
    ...redisHead,
    '',
  ]
  const widths = head.map((title, i) => Math.max(title.length, ...table.map((row) => row[i]?.length ?? 0)))
  for (const row of [head, ...table]) {
    console.log(
      row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
    )
  }
}
