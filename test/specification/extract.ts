/** `node test/specification/extract.ts CHECKOUT VERSION`: makes client-server.json of a checkout of the specification. What
 *  is kept is what an answer can be held against: methods, paths, statuses, schemas. Words and examples stay behind. */
import { globSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { parse } from 'yaml'
import { asObject, type JsonSchema, type Operation, type ResponseShape, type Specification } from './specification.ts'

/** Keywords that hold one schema, a list, and a map of names to schemas. */
const nested = new Set(['items', 'additionalProperties', 'not', 'if', 'then', 'else', 'contains', 'propertyNames'])
const listed = new Set(['allOf', 'anyOf', 'oneOf', 'prefixItems'])
const named = new Set(['properties', 'patternProperties', 'dependentSchemas'])
const plain = new Set(
  'type enum const required format pattern minimum maximum minLength maxLength minItems maxItems uniqueItems'.split(
    ' ',
  ),
)

export function extract(checkout: string, version: string): Specification {
  const data = path.join(checkout, 'data')
  const files = new Map<string, unknown>()
  const schemas: Record<string, JsonSchema> = {}
  const operations: Record<string, Operation> = {}

  function read(file: string): unknown {
    const known = files.get(file) ?? parse(readFileSync(path.join(data, file), 'utf8'))
    files.set(file, known)
    return known
  }

  /** What a reference stands for, and the file it is in. */
  function resolve(
    ref: string,
    from: string,
  ): { readonly file: string; readonly pointer: string; readonly value: unknown } {
    const [name = '', pointer = ''] = ref.trim().split('#')
    const file = name === '' ? from : path.join(path.dirname(from), name)
    let value = read(file)
    for (const part of pointer.split('/').slice(1)) {
      value = asObject(value, ref)[part.replaceAll('~1', '/').replaceAll('~0', '~')]
    }
    return { file, pointer, value }
  }

  /** An object where a reference may stand in its place. */
  function deref(value: unknown, from: string): { readonly file: string; readonly object: Record<string, unknown> } {
    const object = asObject(value, from)
    if (typeof object.$ref !== 'string') return { file: from, object }
    const target = resolve(object.$ref, from)
    return deref(target.value, target.file)
  }

  function schemaOf(value: unknown, from: string): JsonSchema {
    if (typeof value === 'boolean') return value
    const kept: Record<string, unknown> = {}
    for (const [keyword, inner] of Object.entries(asObject(value, from))) {
      if (keyword === '$ref') kept.$ref = nameOf(String(inner), from)
      else if (plain.has(keyword)) kept[keyword] = inner
      else if (nested.has(keyword)) kept[keyword] = schemaOf(inner, from)
      else if (listed.has(keyword)) kept[keyword] = (inner as unknown[]).map((each) => schemaOf(each, from))
      else if (named.has(keyword)) {
        kept[keyword] = Object.fromEntries(
          Object.entries(asObject(inner, from)).map(([name, schema]) => [name, schemaOf(schema, from)]),
        )
      }
    }
    return kept
  }

  /** The schema behind a reference becomes one of `schemas`, once. */
  function nameOf(ref: string, from: string): string {
    const { file, pointer, value } = resolve(ref, from)
    const name = `${file.replace(/^api\/|\.yaml$/g, '')}${pointer}`.replace(/[^\w.-]+/g, '.')
    if (!Object.hasOwn(schemas, name)) {
      schemas[name] = true // So that a schema may refer to itself.
      schemas[name] = schemaOf(value, file)
    }
    return `#/schemas/${name}`
  }

  function responseOf(value: unknown, from: string): ResponseShape {
    const { file, object } = deref(value, from)
    const body = object.content === undefined ? [] : Object.entries(asObject(object.content, file))
    const headers = object.headers === undefined ? [] : Object.entries(asObject(object.headers, file))
    return {
      types: body.map(([type]) => type),
      ...Object.fromEntries(
        body
          .filter(([type, content]) => type === 'application/json' && asObject(content, file).schema !== undefined)
          .map(([, content]) => ['schema', schemaOf(asObject(content, file).schema, file)]),
      ),
      requiredHeaders: headers
        .filter(([, header]) => deref(header, file).object.required === true)
        .map(([name]) => name.toLowerCase()),
    }
  }

  for (const name of globSync('api/client-server/*.yaml', { cwd: data }).sort()) {
    const document = asObject(read(name), name)
    const [server] = document.servers as readonly unknown[]
    const variables = asObject(asObject(server, name).variables, name)
    const prefix = String(asObject(variables.basePath ?? { default: '' }, name).default)
    for (const [template, item] of Object.entries(asObject(document.paths, name))) {
      for (const [method, value] of Object.entries(asObject(item, name))) {
        if (!['get', 'post', 'put', 'delete', 'patch'].includes(method)) continue
        const declared = asObject(value, name)
        const id = String(declared.operationId)
        if (Object.hasOwn(operations, id)) throw new Error(`two operations are called ${id}`)
        operations[id] = {
          method: method.toUpperCase(),
          // A second operation of the same path has a space at its end there.
          path: `${prefix.replace(/\/$/, '')}${template.trim()}`,
          responses: Object.fromEntries(
            Object.entries(asObject(declared.responses, name)).map(([status, response]) => [
              status,
              responseOf(response, name),
            ]),
          ),
        }
      }
    }
  }
  return { version, operations, schemas }
}

if (import.meta.main) {
  const [checkout, version] = process.argv.slice(2)
  if (checkout === undefined || version === undefined) throw new Error('usage: extract.ts CHECKOUT VERSION')
  const target = path.join(import.meta.dirname, 'client-server.json')
  writeFileSync(target, `${JSON.stringify(extract(checkout, version), null, 1)}\n`)
}
