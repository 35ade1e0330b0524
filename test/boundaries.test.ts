/** Holds the import directions: who may see whom. docs/architecture.md has the table in words. */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'

const root = path.resolve(import.meta.dirname, '..')

interface SourceFile {
  /** From the project's root, with forward slashes. */
  readonly file: string
  readonly imports: readonly { readonly specifier: string; readonly file: string | undefined }[]
}

const importLine =
  /(?:^|\n)\s*(?:import|export)\s[^'"\n;]*?(?:\{[^}]*\}[^'"\n;]*?)?from\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]|(?:^|\n)import\s+['"]([^'"]+)['"]/g

function sourceFiles(folder: string): SourceFile[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => {
      const file = path.posix.join(folder, name.replaceAll(path.sep, '/'))
      const text = readFileSync(path.join(root, file), 'utf8')
      const imports = [...text.matchAll(importLine)].map((match) => {
        const specifier = match[1] ?? match[2] ?? match[3] ?? ''
        return {
          specifier,
          file: specifier.startsWith('.') ? path.posix.join(path.posix.dirname(file), specifier) : undefined,
        }
      })
      return { file, imports }
    })
}

/** Who opens connections beside shared/egress: to hosts that the operator named, never to one that came with a request. */
const ownConnections: Readonly<Record<string, string>> = {
  'functions/edge/handler-connections.ts': 'the handlers behind the edge',
  'functions/edge/handler-sessions.ts': 'the handlers behind the edge',
  'functions/edge/worker.ts': 'the handlers behind the edge',
  'functions/main/command-server.ts': 'whether the own socket is taken',
  'functions/main/outbox/deliver.ts': 'the mail server and the gateway for short messages that the operator names',
  'functions/media/scanner-connection.ts': 'the scanner that the operator names',
  'shared/media/s3-store.ts': 'the object store that the operator names',
  'shared/redis/rest-subscription.ts': 'Redis over its REST API',
  'shared/replication/command-sessions.ts': 'mains',
  'shared/role/forward.ts': 'handlers of other roles',
  'shared/tracing/otlp-exporter.ts': 'the collector of traces',
  // Their `fetch` is what serves.
  'functions/edge/containers.ts': 'nobody',
  'shared/http/access-log.ts': 'nobody',
  'shared/http/listeners.ts': 'nobody',
}
const connecting = /^(?:request|get|connect|createConnection|fetch|Agent|Client|Pool|Dispatcher)$/

/** What in a file may open connections: the global fetch, and what it takes of the modules that do. */
function connectionsOf(text: string): string[] {
  const imported = [
    ...text.matchAll(/(?:import|export)\s+(?!type\b)([^'"]*?)\s+from\s+'((?:node:)?(?:https?|http2|net|tls)|undici)'/g),
  ]
  const names = imported.flatMap(([, clause = '', module = '']) => {
    const named = /\{([^}]*)\}/.exec(clause)
    // A module taken as a whole may be used for anything.
    if (!named) return [module]
    const values = (named[1] ?? '').split(',').map((name) => name.trim().split(/\s+as\s+/)[0] ?? '')
    return values.filter((name) => connecting.test(name))
  })
  const dynamic = [...text.matchAll(/\bimport\('((?:node:)?(?:https?|http2|net|tls)|undici)'\)/g)].map(
    ([, m = '']) => m,
  )
  return [
    ...names,
    ...dynamic,
    ...(/(?<![.\w])(?:globalThis\.)?fetch\(|\bXMLHttpRequest\b|\bnew WebSocket\(/.test(text) ? ['fetch'] : []),
  ]
}

const files = ['shared', 'functions', 'infra', 'test'].flatMap(sourceFiles)
const isTest = (file: string) => file.endsWith('.test.ts')

/** What the files of a folder may import of the project; tests may use the helpers in test/support beside that. */
function allowed(file: string): (imported: string) => boolean {
  const within =
    (...folders: string[]) =>
    (imported: string) =>
      folders.some((folder) => imported.startsWith(`${folder}/`))
  if (isTest(file) && file.startsWith('shared/')) return within('shared', 'test/support')
  if (isTest(file) && file.startsWith('functions/')) {
    return within(file.split('/').slice(0, 2).join('/'), 'shared', 'test/support')
  }
  if (file.startsWith('shared/matrix/')) return within('shared/matrix')
  if (file.startsWith('shared/core/')) return within('shared/core', 'shared/matrix')
  if (file.startsWith('shared/')) return within('shared')
  if (file.startsWith('functions/monolith/')) return within('functions', 'shared')
  if (file.startsWith('functions/')) return within(file.split('/').slice(0, 2).join('/'), 'shared')
  return (imported) => !imported.startsWith('../')
}

describe('import directions', () => {
  test('there is something to check', () => expect(files.length).toBeGreaterThan(50))

  test('every import goes where its folder may', () => {
    const broken = files.flatMap(({ file, imports }) =>
      imports.filter((i) => i.file !== undefined && !allowed(file)(i.file)).map((i) => `${file} imports ${i.file}`),
    )
    expect(broken).toEqual([])
  })

  test('infra and test are imported by nobody else', () => {
    const broken = files.flatMap(({ file, imports }) =>
      imports
        .filter(
          (i) =>
            i.file !== undefined &&
            /^(?:infra|test)\//.test(i.file) &&
            !/^(?:infra|test)\//.test(file) &&
            !isTest(file),
        )
        .map((i) => `${file} imports ${i.file}`),
    )
    expect(broken).toEqual([])
  })

  test('the vocabulary and the rules are pure: no I/O, no clock, no randomness', () => {
    // Hashes and signatures are functions of their input.
    const pure = new Set(['node:crypto', 'node:assert', 'node:assert/strict', 'valibot', 're2js', 'lru-cache'])
    const impure = files
      .filter(({ file }) => /^shared\/(?:matrix|core)\//.test(file) && !isTest(file))
      .flatMap(({ file, imports }) =>
        imports
          .filter((i) => i.file === undefined && !pure.has(i.specifier))
          .map((i) => `${file} imports ${i.specifier}`),
      )
    expect(impure).toEqual([])
    const clock = files
      .filter(({ file }) => file.startsWith('shared/core/') && !isTest(file))
      .filter(({ file }) =>
        /\bDate\.now\(|\bMath\.random\(|\bnew Date\(\)/.test(readFileSync(path.join(root, file), 'utf8')),
      )
      .map(({ file }) => file)
    expect(clock).toEqual([])
  })

  test('only main writes: nobody else has a handle that can', () => {
    const writers = files
      .filter(({ file }) => /^functions\/(?!main\/|monolith\/)/.test(file) && !isTest(file))
      .filter(({ file }) =>
        /\b(?:connectForWriting|MainSql|WriteTx)\b/.test(readFileSync(path.join(root, file), 'utf8')),
      )
      .map(({ file }) => file)
    expect(writers).toEqual([])
  })

  test('no file is a barrel', () => {
    const barrels = files
      .filter(({ file }) => /^export \* from/m.test(readFileSync(path.join(root, file), 'utf8')))
      .map(({ file }) => file)
    expect(barrels).toEqual([])
  })

  test('requests to the outside are made by shared/egress alone', () => {
    const sources = files.filter(({ file }) => /^(?:shared|functions)\//.test(file) && !isTest(file))
    const found = sources
      .filter(({ file }) => !file.startsWith('shared/egress/'))
      .filter(({ file }) => connectionsOf(readFileSync(path.join(root, file), 'utf8')).length > 0)
      .map(({ file }) => file)
    expect(found.sort()).toEqual(Object.keys(ownConnections).sort())
  })

  test.each([
    ["import { request } from 'node:https'", ['request']],
    ["import { type Agent, createServer } from 'node:http'", []],
    ["import {\n  Agent as Plain,\n  createServer,\n} from 'node:http'", ['Agent']],
    ["import http from 'node:http'", ['node:http']],
    ["import * as undici from 'undici'", ['undici']],
    ["import type { Agent } from 'undici'", []],
    ["export { Agent } from 'undici'", ['Agent']],
    ["await import('undici')", ['undici']],
    ['await fetch(url)', ['fetch']],
    ['await globalThis.fetch(url)', ['fetch']],
    ['await app.fetch(request)', []],
  ])('%j may connect by %j', (text, names) => expect(connectionsOf(text)).toEqual(names))
})
