/** @redis/client without its methods for four hundred commands, of which we call none: shared/redis sends commands as they
 *  are. Making them takes a tenth of a second of each start, and half of a bundle. */
import type { Plugin } from 'esbuild'

/** What of the package's own index shared/redis imports. */
const index = `
module.exports = {
  createClient: require('@redis/client/dist/lib/client/index.js').default.create,
  ...require('@redis/client/dist/lib/errors.js'),
}`
/** Those that its client sends by itself as it connects. */
const commands = `
const of = (module) => module.default
module.exports = {
  default: {
    AUTH: of(require('@redis/client/dist/lib/commands/AUTH.js')),
    CLIENT_SETNAME: of(require('@redis/client/dist/lib/commands/CLIENT_SETNAME.js')),
    READONLY: of(require('@redis/client/dist/lib/commands/READONLY.js')),
  },
  NON_STICKY_COMMANDS: {},
}
Object.defineProperty(module.exports, '__esModule', { value: true })`

const namespace = 'lean-redis'
const modules: Readonly<Record<string, string>> = { index, commands }

export const leanRedis: Plugin = {
  name: 'lean redis',
  setup(build) {
    build.onResolve({ filter: /^@redis\/client$/ }, () => ({ path: 'index', namespace }))
    build.onResolve({ filter: /^\.\.\/commands$/ }, ({ importer }) =>
      /@redis[\\/]client[\\/]dist[\\/]lib[\\/]client[\\/]/.test(importer) ? { path: 'commands', namespace } : undefined,
    )
    build.onLoad({ filter: /.*/, namespace }, ({ path }) => ({
      contents: modules[path] ?? '',
      resolveDir: import.meta.dirname,
      loader: 'js',
    }))
  },
}
