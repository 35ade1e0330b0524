import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { expectation } from '../../shared/config/load.ts'
import { Config } from '../../shared/config/schema.ts'
import { type Leaf, leaves, type SchemaNode, schemaNode } from '../../shared/config/walk.ts'
import type { Command } from './command.ts'

const docs = path.resolve(import.meta.dirname, '../../docs')

export const generateDocs: Command = {
  help: `Usage: ganglion generate-docs [--check]

Writes docs/configuration.md and docs/config.schema.json from the configuration's schema.

      --check   write nothing; exit with 1 if a file is not what would be written`,
  run(args) {
    const { values } = parseArgs({ args: [...args], options: { check: { type: 'boolean' } } })
    let stale = 0
    for (const { file, text } of generatedDocs()) {
      if (!values.check) {
        mkdirSync(docs, { recursive: true })
        writeFileSync(file, text)
      } else if (text !== currentText(file)) {
        process.stderr.write(`${path.relative(process.cwd(), file)} is not up to date: run \`npm run docs\`\n`)
        stale++
      }
    }
    return stale > 0 ? 1 : 0
  },
}

/** Each generated file, and what it should hold. */
export function generatedDocs(): { file: string; text: string }[] {
  const root = schemaNode(Config)
  return [
    { file: path.join(docs, 'configuration.md'), text: configurationPage(root) },
    { file: path.join(docs, 'config.schema.json'), text: `${JSON.stringify(jsonSchema(root), null, 2)}\n` },
  ]
}

function currentText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

// ---- the page

const introduction = `# Configuration

*Generated from \`shared/config/schema.ts\` by \`npm run docs\`.*

One YAML file is shared by all processes. \`ganglion generate-config\` writes one, \`ganglion check-config\` says what is wrong
with it.

- \`-c\`, \`--config-path\` names a file, or a folder whose \`*.yaml\` are read by name. It can be repeated: the later file
  wins, key by key; lists are replaced whole. \`GANGLION_CONFIG_PATH\` (paths, parted by colons) does the same.
- Every key can be set by an environment variable, which wins over all files: \`GANGLION_\` and the key in capitals, with
  \`__\` between levels. \`GANGLION_REGISTRATION__ENABLED=true\` sets \`registration.enabled\`. Lists are written as YAML:
  \`GANGLION_LISTENERS='[{port: 8009}]'\`.
- A key that is marked *secret* can be read from a file: \`<key>_path\` instead of the key.
- Durations are written \`500ms\`, \`30s\`, \`5m\`, \`12h\`, \`7d\`, \`2w\` or \`1y\`, sizes \`512K\`, \`50M\` or \`2G\` (units of 1024).
  Plain numbers are milliseconds and bytes.
- A key that is not known is named in a warning and ignored. A value that cannot be used stops the start; the message
  names the file, the key and what was expected.
- An editor that knows YAML schemas completes and checks keys with \`docs/config.schema.json\`.

| key | value | default | what it does |
|---|---|---|---|
`

function configurationPage(root: SchemaNode): string {
  return introduction + leaves(root).map(row).join('')
}

function row({ path: key, node }: Leaf): string {
  const description = [node.description ?? '', node.secret ? `*Secret*: or \`${key}_path\`.` : '']
    .filter(Boolean)
    .join(' ')
  const value =
    node.kind === 'text'
      ? 'text'
      : node.item && node.item.kind !== 'object'
        ? `list of ${kindInWords(node.item)}`
        : kindInWords(node)
  return `| \`${key}\` | ${value} | ${defaultInWords(node)} | ${description.replaceAll('|', '\\|')} |\n`
}

function kindInWords(node: SchemaNode): string {
  switch (node.kind) {
    case 'duration':
      return 'duration'
    case 'size':
      return 'size'
    case 'text':
      return 'text'
    case 'array':
      return 'list'
    default:
      return expectation(node).replace(/^(?:a|one) /, (article) => (article === 'one ' ? 'one ' : ''))
  }
}

function defaultInWords(node: SchemaNode): string {
  if (node.required) return '**required**'
  if (node.default === undefined) return '–'
  return `\`${typeof node.default === 'string' ? node.default : JSON.stringify(node.default)}\``
}

// ---- the JSON schema

function jsonSchema(root: SchemaNode): object {
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Configuration of Ganglion',
    ...objectSchema(root),
  }
}

function objectSchema(node: SchemaNode): object {
  const properties: Record<string, object> = {}
  for (const [key, child] of node.entries) {
    properties[key] = valueSchema(child)
    if (child.secret) properties[`${key}_path`] = { type: 'string', description: `File that holds ${key}.` }
  }
  const required = [...node.entries].filter(([, child]) => child.required).map(([key]) => key)
  return { type: 'object', additionalProperties: false, properties, ...(required.length > 0 ? { required } : {}) }
}

function valueSchema(node: SchemaNode): object {
  const common = {
    ...(node.description === undefined ? {} : { description: node.description }),
    ...(node.default === undefined ? {} : { default: node.default }),
  }
  const bounds = {
    ...(node.minimum === undefined ? {} : { minimum: node.minimum }),
    ...(node.maximum === undefined ? {} : { maximum: node.maximum }),
  }
  switch (node.kind) {
    case 'object':
      return { ...common, ...objectSchema(node) }
    case 'array':
      return { ...common, type: 'array', ...(node.item ? { items: valueSchema(node.item) } : {}) }
    case 'text':
      return { ...common, type: 'string' }
    case 'boolean':
      return { ...common, type: 'boolean' }
    case 'number':
    case 'integer':
      return { ...common, type: node.kind, ...bounds }
    case 'choice':
      return { ...common, enum: node.choices }
    case 'duration':
      return { ...common, type: ['string', 'integer'], pattern: '^\\d+(ms|s|m|h|d|w|y)$', minimum: 0 }
    case 'size':
      return { ...common, type: ['string', 'integer'], pattern: '^\\d+[KMGT]?$', minimum: 0 }
  }
}
