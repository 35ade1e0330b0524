/** The specification's description of the client-server API, as extract.ts has made it. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { Method } from '../../shared/http/route.ts'
import { createRouter, type Router } from '../../shared/http/router.ts'

export type JsonSchema = boolean | { readonly [keyword: string]: unknown }

export interface ResponseShape {
  /** Media types; none where there is no body, or none that is described. */
  readonly types: readonly string[]
  /** Of the JSON body, where it is described. */
  readonly schema?: JsonSchema
  /** In lower case. */
  readonly requiredHeaders: readonly string[]
}

export interface Operation {
  readonly method: string
  /** With `{name}` for parameters. */
  readonly path: string
  readonly responses: Readonly<Record<string, ResponseShape>>
}

export interface Specification {
  readonly version: string
  /** By operationId. */
  readonly operations: Readonly<Record<string, Operation>>
  /** Named by the file they come from; `#/schemas/<name>` refers to them. */
  readonly schemas: Readonly<Record<string, JsonSchema>>
}

export function readSpecification(): Specification {
  return JSON.parse(readFileSync(path.join(import.meta.dirname, 'client-server.json'), 'utf8')) as Specification
}

/** Finds the operations of a request. There may be two, told apart by the request's body or parameters; their answers are
 *  not told apart here. */
export function operationRouter({ operations }: Specification): Router<readonly string[]> {
  const byEndpoint = Object.groupBy(
    Object.entries(operations),
    ([, { method, path: template }]) => `${method} ${template.replace(/\{(\w+)\}/g, ':$1')}`,
  )
  const router = createRouter<readonly string[]>()
  for (const [endpoint, entries = []] of Object.entries(byEndpoint)) {
    const [method = '', pattern = ''] = endpoint.split(' ')
    const ids = entries.map(([id]) => id)
    router.add(method as Method, pattern, ids)
    // With an empty state key the slash before it may be left out.
    if (pattern.endsWith('/state/:eventType/:stateKey')) router.add(method as Method, path.dirname(pattern), ids)
  }
  return router
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function asObject(value: unknown, where: string): Record<string, unknown> {
  if (!isRecord(value)) throw new Error(`${where}: not an object`)
  return value
}
