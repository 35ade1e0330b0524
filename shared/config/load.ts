/** One YAML for every process, overlaid by further files and by the environment. What is wrong is told with the file, the
 *  key and what was expected; what is unknown is told and ignored. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import * as v from 'valibot'
import { Config } from './schema.ts'
import { nearest } from './suggest.ts'
import { leaves, type SchemaNode, schemaNode } from './walk.ts'

export interface LoadedConfig {
  readonly config: Config
  /** Keys nobody knows, one sentence each. */
  readonly warnings: readonly string[]
}

/** Everything that is wrong with the configuration, one line each. */
export class ConfigError extends Error {
  readonly problems: readonly string[]
  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

type Tree = Record<string, unknown>
interface Source {
  /** A file's path, or `environment`. */
  readonly name: string
  readonly values: Tree
}

const prefix = 'GANGLION_'
/** Variables of this prefix that are no settings. */
const notSettings = /^GANGLION_(?:CONFIG_PATH$|ROLE$|SEMI_SPACE_MB$|TEST_)/

/** Files in the order given, then the environment; a later one wins key by key, and lists are replaced whole. A folder
 *  stands for its *.yaml and *.yml by name. Throws ConfigError. */
export async function loadConfig(input: {
  readonly paths: readonly string[]
  readonly env: NodeJS.ProcessEnv
  /** Values under all others. */
  readonly base?: Tree
}): Promise<LoadedConfig> {
  const sources: Source[] = [{ name: 'defaults', values: input.base ?? {} }]
  for (const file of input.paths.flatMap(filesOf)) sources.push(await readSource(file))
  sources.push(await fromEnvironment(input.env))
  return parseConfig(sources)
}

/** Parses what was put together by hand; throws ConfigError. */
export function configFrom(values: Tree, name = 'configuration'): Config {
  return parseConfig([{ name, values }]).config
}

function parseConfig(sources: readonly Source[]): LoadedConfig {
  const root = schemaNode(Config)
  const warnings: string[] = []
  const problems: string[] = []
  const origin = new Map<string, string>()
  const merged: Tree = {}
  for (const source of sources) {
    const known = withoutUnknown(source.values, root, '', source.name, warnings)
    readSecretFiles(known, root, '', source.name, problems)
    merge(merged, known, '', source.name, origin)
  }
  const result = v.safeParse(Config, merged)
  if (result.success && problems.length === 0) return { config: result.output, warnings }
  for (const issue of result.issues ?? []) problems.push(problemOf(issue, root, origin))
  throw new ConfigError([...problems, ...warnings.map((warning) => `warning: ${warning}`)])
}

// ---- reading

/** A large package for the few moments of a start, which not every start needs. */
const loadYaml = () => import('./yaml.ts')

function filesOf(given: string): string[] {
  if (!existsSync(given)) throw new ConfigError([`${given}: there is no such file or folder`])
  if (!statSync(given).isDirectory()) return [given]
  return readdirSync(given)
    .filter((name) => /\.ya?ml$/.test(name))
    .sort()
    .map((name) => path.join(given, name))
}

async function readSource(file: string): Promise<Source> {
  const { LineCounter, parseDocument } = await loadYaml()
  const lines = new LineCounter()
  const document = parseDocument(readFileSync(file, 'utf8'), { lineCounter: lines, prettyErrors: false })
  if (document.errors.length > 0) {
    throw new ConfigError(
      document.errors.map((error) => `${file}, line ${lines.linePos(error.pos[0]).line}: not YAML: ${error.message}`),
    )
  }
  const values: unknown = document.toJS() ?? {}
  if (!isTree(values)) throw new ConfigError([`${file}: expected keys and values at the top`])
  return { name: file, values }
}

/** `GANGLION_REGISTRATION__SHARED_SECRET=x` sets registration.shared_secret; lists and objects are YAML. */
async function fromEnvironment(env: NodeJS.ProcessEnv): Promise<Source> {
  const values: Tree = {}
  const root = schemaNode(Config)
  for (const [name, text] of Object.entries(env)) {
    if (!name.startsWith(prefix) || notSettings.test(name) || text === undefined) continue
    const keys = name.slice(prefix.length).toLowerCase().split('__')
    const kind = keys.reduce<SchemaNode | undefined>((node, key) => node?.entries.get(key), root)?.kind
    const isText = kind === 'text' || kind === 'choice' || kind === 'duration' || kind === 'size' || kind === undefined
    place(values, keys, isText ? text : (await loadYaml()).parse(text))
  }
  return { name: 'environment', values }
}

function place(values: Tree, [key = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    values[key] = value
    return
  }
  const next = values[key]
  const child = isTree(next) ? next : {}
  values[key] = child
  place(child, rest, value)
}

// ---- checking

/** A copy without the keys nobody knows; each is told, with what may have been meant. */
function withoutUnknown(values: Tree, node: SchemaNode, at: string, source: string, warnings: string[]): Tree {
  const kept: Tree = {}
  for (const [key, value] of Object.entries(values)) {
    const child =
      node.entries.get(key) ?? (node.entries.get(key.replace(/_path$/, ''))?.secret ? secretFile : undefined)
    if (!child) {
      warnings.push(unknownKey(key, node, at, source))
    } else if (child.kind === 'object' && isTree(value)) {
      kept[key] = withoutUnknown(value, child, `${at}${key}.`, source, warnings)
    } else if (child.item?.kind === 'object' && Array.isArray(value)) {
      const item = child.item
      kept[key] = value.map((entry, i) =>
        isTree(entry) ? withoutUnknown(entry, item, `${at}${key}[${i}].`, source, warnings) : entry,
      )
    } else if (!(value === null && child.kind === 'object')) {
      kept[key] = value
    }
  }
  return kept
}

const secretFile: SchemaNode = {
  kind: 'text',
  description: undefined,
  expected: undefined,
  secret: false,
  required: false,
  default: undefined,
  minimum: undefined,
  maximum: undefined,
  choices: [],
  entries: new Map(),
  item: undefined,
}

function unknownKey(key: string, node: SchemaNode, at: string, source: string): string {
  const elsewhere = leaves(schemaNode(Config)).find((leaf) => {
    const name = leaf.path.split('.').at(-1)
    return name === key || leaf.path.replaceAll('.', '_') === key
  })
  const near = nearest(key, node.entries.keys())
  const meant = near !== undefined ? `${at}${near}` : elsewhere?.path
  return `${where(source, at + key)} is unknown and ignored${meant ? `; did you mean ${meant}?` : ''}`
}

/** `shared_secret_path: file` stands for `shared_secret: <what the file holds, less the line's end>`. */
function readSecretFiles(values: Tree, node: SchemaNode, at: string, source: string, problems: string[]): void {
  for (const [key, child] of node.entries) {
    const value = values[key]
    if (child.kind === 'object' && isTree(value)) readSecretFiles(value, child, `${at}${key}.`, source, problems)
    const file = values[`${key}_path`]
    if (!child.secret || file === undefined) continue
    delete values[`${key}_path`]
    if (value !== undefined)
      problems.push(`${where(source, at + key)} is set, and so is ${at}${key}_path: leave one out`)
    else if (typeof file !== 'string')
      problems.push(`${where(source, `${at}${key}_path`)}: expected the path of a file`)
    else {
      try {
        values[key] = readFileSync(file, 'utf8').replace(/\r?\n$/, '')
      } catch (error) {
        problems.push(`${where(source, `${at}${key}_path`)}: cannot read ${file}: ${(error as Error).message}`)
      }
    }
  }
}

function problemOf(issue: v.BaseIssue<unknown>, root: SchemaNode, origin: ReadonlyMap<string, string>): string {
  const keys = (issue.path ?? []).map((item) => item.key as string | number)
  const dotted = keys.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : text ? `${text}.${key}` : key),
    '',
  )
  const node = keys.reduce<SchemaNode | undefined>(
    (at, key) => (typeof key === 'number' ? at?.item : at?.entries.get(key)),
    root,
  )
  const source = originOf(dotted, origin)
  if (issue.input === undefined && node?.required)
    return `${dotted} is missing: ${node.description ?? 'it must be set'}`
  const given = node?.secret ? 'a secret' : JSON.stringify(issue.input)
  return `${where(source, dotted)}: expected ${node ? expectation(node) : issue.expected}, but got ${given}`
}

function originOf(dotted: string, origin: ReadonlyMap<string, string>): string {
  for (let key = dotted; key !== ''; key = key.replace(/(?:^|[.[])[^.[]*$/, '')) {
    const found = origin.get(key)
    if (found) return found
  }
  return 'configuration'
}

function where(source: string, key: string): string {
  return source === 'environment' ? `${prefix}${key.toUpperCase().replaceAll('.', '__')}` : `${source}: ${key}`
}

/** What a value has to be, in words. */
export function expectation(node: SchemaNode): string {
  switch (node.kind) {
    case 'duration':
      return 'a duration such as 30s, 5m or 7d'
    case 'size':
      return 'a size such as 512K or 50M'
    case 'choice':
      return `one of ${node.choices.join(', ')}`
    case 'boolean':
      return 'true or false'
    case 'number':
    case 'integer': {
      const what = node.kind === 'integer' ? 'a whole number' : 'a number'
      if (node.minimum !== undefined && node.maximum !== undefined)
        return `${what} from ${node.minimum} to ${node.maximum}`
      return node.minimum === undefined ? what : `${what}, at least ${node.minimum}`
    }
    case 'array':
      return 'a list'
    case 'object':
      return 'keys and values'
    case 'text':
      return node.expected ?? (node.secret ? 'text that is not empty' : 'text')
  }
}

// ---- merging

function merge(into: Tree, from: Tree, at: string, source: string, origin: Map<string, string>): void {
  for (const [key, value] of Object.entries(from)) {
    const here = at ? `${at}.${key}` : key
    const before = into[key]
    if (isTree(value) && isTree(before)) {
      merge(before, value, here, source, origin)
    } else if (isTree(value)) {
      const copy: Tree = {}
      into[key] = copy
      origin.set(here, source)
      merge(copy, value, here, source, origin)
    } else {
      into[key] = value
      origin.set(here, source)
    }
  }
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
