/** `npm run dev`: one process with all roles. `npm run dev -- --roles`: each role by itself. Both start anew what changed. */
import { enableCompileCache } from 'node:module'
import path from 'node:path'
import { parseArgs } from 'node:util'

const help = `Usage: npm run dev -- [options]

  -c, --config-path FILE  a configuration over the defaults for trying things out; may be repeated
      --roles             the edge, two handlers of each role and main as processes of their own (needs redis-server)
      --handlers N        so many handlers of each role
      --mains N           so many mains
      --no-watch          do not restart when the sources change
`

const { values } = parseArgs({
  allowNegative: true,
  options: {
    'config-path': { type: 'string', short: 'c', multiple: true, default: [] },
    roles: { type: 'boolean', default: false },
    handlers: { type: 'string', default: '2' },
    mains: { type: 'string', default: '1' },
    watch: { type: 'boolean', default: true },
    help: { type: 'boolean', short: 'h', default: false },
  },
})

enableCompileCache(path.join(import.meta.dirname, '../../node_modules/.cache/node-compile'))
const configPaths = values['config-path']
if (values.help) {
  process.stdout.write(help)
} else if (values.roles) {
  const { devRoles } = await import('./dev-roles.ts')
  process.exitCode = await devRoles({
    configPaths,
    watch: values.watch,
    handlers: Number(values.handlers),
    mains: Number(values.mains),
  })
} else {
  const { devOne } = await import('./dev-one.ts')
  process.exitCode = await devOne({ configPaths, watch: values.watch })
}
