/** `npm run build [-- --outdir DIR]`: one bundle a role in dist/. Fails when one has outgrown its budget in budgets.json: what
 *  a handler loads at its start is time that a request may have to wait for. */
import { readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { type Bundle, buildBundles, root } from './bundles.ts'

const { values } = parseArgs({ options: { outdir: { type: 'string', default: 'dist' } } })
const dist = path.resolve(root, values.outdir)
/** Kilobytes by bundle. */
const budgets = JSON.parse(readFileSync(path.join(import.meta.dirname, 'budgets.json'), 'utf8')) as Record<
  string,
  number
>

rmSync(dist, { recursive: true, force: true })
const startedAt = performance.now()
const bundles = await buildBundles(dist)
for (const bundle of bundles) process.stdout.write(`${line(bundle)}\n`)
process.stdout.write(`built in ${Math.round(performance.now() - startedAt)} ms\n`)

function line({ name, bytes }: Bundle): string {
  const size = Math.ceil(bytes / 1024)
  const budget = budgets[name]
  const file = path.join(values.outdir, `${name}.js`).padEnd(20)
  if (budget === undefined || size > budget) {
    process.exitCode = 1
    return `${file} ${size} kB at its start: over the budget of ${budget ?? 'none'} kB in infra/build/budgets.json`
  }
  return `${file} ${size} kB at its start, of ${budget}`
}
