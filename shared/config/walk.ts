/** Reads the schema as data: the loader, the page of keys and the JSON schema are derived from it. */
import type * as v from 'valibot'

export type Schema = v.GenericSchema<unknown, unknown>

export interface SchemaNode {
  readonly kind: 'object' | 'array' | 'text' | 'number' | 'integer' | 'boolean' | 'choice' | 'duration' | 'size'
  readonly description: string | undefined
  /** What a text has to be, in words. */
  readonly expected: string | undefined
  readonly secret: boolean
  readonly required: boolean
  /** As it would be written in the file. */
  readonly default: unknown
  readonly minimum: number | undefined
  readonly maximum: number | undefined
  readonly choices: readonly string[]
  /** Of an object. */
  readonly entries: ReadonlyMap<string, SchemaNode>
  /** Of an array. */
  readonly item: SchemaNode | undefined
}

interface Introspected {
  readonly kind: 'schema' | 'validation' | 'transformation' | 'metadata'
  readonly type: string
  readonly requirement?: unknown
  readonly pipe?: readonly Introspected[]
  readonly wrapped?: Introspected
  readonly default?: unknown
  readonly entries?: Readonly<Record<string, Introspected>>
  readonly item?: Introspected
  readonly options?: readonly unknown[]
  readonly metadata?: Readonly<Record<string, unknown>>
  readonly description?: string
}

/** Every schema that the configuration uses; throws for one it does not know, so that none goes undocumented. */
export function schemaNode(schema: Schema): SchemaNode {
  return node(schema as unknown as Introspected)
}

function node(schema: Introspected): SchemaNode {
  const actions = schema.pipe?.slice(1) ?? []
  const find = (type: string) => actions.find((action) => action.type === type)
  const own = {
    description: find('description')?.description,
    minimum: find('min_value')?.requirement as number | undefined,
    maximum: find('max_value')?.requirement as number | undefined,
    expected: actions.find((action) => action.metadata?.expected !== undefined)?.metadata?.expected as
      | string
      | undefined,
    secret: actions.some((action) => action.metadata?.secret === true),
  }
  if (schema.type === 'optional') {
    const inner = node((schema.wrapped ?? schema) as Introspected)
    return {
      ...inner,
      description: own.description ?? inner.description,
      required: false,
      default: schema.default,
    }
  }
  // A pipe may begin with another pipe: what that one says holds too.
  const base = schema.pipe?.[0]?.pipe ? node(schema.pipe[0]) : undefined
  const unit = actions.find((action) => action.metadata?.unit !== undefined)?.metadata?.unit
  return {
    kind: unit === 'duration' || unit === 'size' ? unit : (base?.kind ?? kindOf(schema, find('integer') !== undefined)),
    description: own.description ?? base?.description,
    expected: own.expected ?? base?.expected,
    secret: own.secret,
    required: true,
    default: undefined,
    minimum: own.minimum ?? base?.minimum,
    maximum: own.maximum ?? base?.maximum,
    choices: (schema.type === 'picklist' ? (schema.options as readonly string[]) : base?.choices) ?? [],
    entries: new Map(Object.entries(schema.entries ?? {}).map(([key, entry]) => [key, node(entry)])),
    item: schema.item ? node(schema.item) : undefined,
  }
}

function kindOf(schema: Introspected, integer: boolean): SchemaNode['kind'] {
  switch (schema.type) {
    case 'object':
    case 'array':
    case 'boolean':
      return schema.type
    case 'string':
      return 'text'
    case 'number':
      return integer ? 'integer' : 'number'
    case 'picklist':
      return 'choice'
    default:
      throw new Error(`the configuration uses a schema of type ${schema.type}, which nothing can describe`)
  }
}

export interface Leaf {
  /** Dotted; `[]` stands for an array's items. */
  readonly path: string
  readonly node: SchemaNode
}

/** Every key that holds a value, in the schema's order; an array of objects counts, and so do its items' keys. */
export function leaves(root: SchemaNode, prefix = ''): Leaf[] {
  return [...root.entries].flatMap(([key, child]) => {
    const path = prefix + key
    if (child.kind === 'object') return leaves(child, `${path}.`)
    const self = { path, node: child }
    return child.item?.kind === 'object' ? [self, ...leaves(child.item, `${path}[].`)] : [self]
  })
}
