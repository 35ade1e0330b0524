/** Finds the route of a request by the segments of its path. Segments are split before they are decoded, and decoded
 *  exactly once, so an encoded slash stays inside its segment. */
import type { Method } from './route.ts'

export interface Endpoint<T> {
  readonly target: T
  /** Names of the path's parameters, in order. */
  readonly names: readonly string[]
}

export type Match<T> =
  | { readonly found: 'endpoint'; readonly endpoint: Endpoint<T>; readonly values: readonly string[] }
  /** The path exists, the method does not. */
  | { readonly found: 'path'; readonly methods: readonly Method[] }
  | { readonly found: 'nothing' }
  /** A percent-encoding that is none. */
  | { readonly found: 'bad-encoding' }

interface Node<T> {
  readonly fixed: Map<string, Node<T>>
  parameter: Node<T> | undefined
  /** Endpoints that take the rest of the path as their last parameter. */
  readonly rest: Map<Method, Endpoint<T>>
  readonly endpoints: Map<Method, Endpoint<T>>
}

export interface Router<T> {
  add(method: Method, path: string, target: T): void
  find(method: Method, path: string): Match<T>
}

export function createRouter<T>(): Router<T> {
  const root = emptyNode<T>()

  return {
    add(method, path, target) {
      const names: string[] = []
      const segments = path.split('/')
      let node = root
      for (let i = 1; i < segments.length; i++) {
        const segment = segments[i] ?? ''
        if (segment === '*' && i === segments.length - 1) {
          claim(node.rest, method, path, { target, names: [...names, '*'] })
          return
        }
        if (segment.startsWith(':')) {
          names.push(segment.slice(1))
          node.parameter ??= emptyNode()
          node = node.parameter
        } else {
          const next = node.fixed.get(segment) ?? emptyNode<T>()
          node.fixed.set(segment, next)
          node = next
        }
      }
      claim(node.endpoints, method, path, { target, names })
    },

    find(method, path) {
      const segments = path.split('/')
      if (path.includes('%')) {
        for (let i = 1; i < segments.length; i++) {
          const decoded = decodeSegment(segments[i] ?? '')
          if (decoded === undefined) return { found: 'bad-encoding' }
          segments[i] = decoded
        }
      }
      const otherMethods: Method[] = []
      const values: string[] = []
      const endpoint = walk(root, segments, 1, method, values, otherMethods)
      if (endpoint) return { found: 'endpoint', endpoint, values }
      return otherMethods.length > 0 ? { found: 'path', methods: [...new Set(otherMethods)] } : { found: 'nothing' }
    },
  }
}

/** Depth first, fixed segments before parameters; `values` holds the parameters of the way that led to the result. */
function walk<T>(
  node: Node<T>,
  segments: readonly string[],
  at: number,
  method: Method,
  values: string[],
  otherMethods: Method[],
): Endpoint<T> | undefined {
  if (at === segments.length) {
    const endpoint = node.endpoints.get(method)
    if (!endpoint) otherMethods.push(...node.endpoints.keys())
    return endpoint
  }
  const segment = segments[at] ?? ''
  const fixed = node.fixed.get(segment)
  const found = fixed && walk(fixed, segments, at + 1, method, values, otherMethods)
  if (found) return found
  if (node.parameter) {
    values.push(segment)
    const byParameter = walk(node.parameter, segments, at + 1, method, values, otherMethods)
    if (byParameter) return byParameter
    values.pop()
  }
  if (node.rest.size === 0) return undefined
  const rest = node.rest.get(method)
  if (rest) values.push(segments.slice(at).join('/'))
  else otherMethods.push(...node.rest.keys())
  return rest
}

function decodeSegment(segment: string): string | undefined {
  if (!segment.includes('%')) return segment
  try {
    return decodeURIComponent(segment)
  } catch (error) {
    if (error instanceof URIError) return undefined
    throw error
  }
}

function claim<T>(endpoints: Map<Method, Endpoint<T>>, method: Method, path: string, endpoint: Endpoint<T>): void {
  if (endpoints.has(method)) throw new Error(`${method} ${path} is declared twice`)
  endpoints.set(method, endpoint)
}

function emptyNode<T>(): Node<T> {
  return { fixed: new Map(), parameter: undefined, rest: new Map(), endpoints: new Map() }
}
