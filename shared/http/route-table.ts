/** Which role serves a request, and what it may be kept together by. Only web standards here: the edge uses it in a Worker. */
import { aliasesOf } from './aliases.ts'
import type { Method, Role } from './route.ts'
import { endpoints, prefixes, type Sticky } from './route-data.ts'
import { createRouter } from './router.ts'

export type { Sticky } from './route-data.ts'

export interface TableRoute {
  readonly method: Method
  /** `:name` is one segment, `*` at the end the rest. */
  readonly path: string
  readonly role: Role
  readonly sticky: Sticky | undefined
}

export interface RoutedTo {
  readonly role: Role
  readonly sticky: Sticky | undefined
  /** The room in the path, decoded, where requests of one room may stay together. */
  readonly room: string | undefined
}

export const roles: readonly Role[] = ['sync', 'client', 'federation', 'media']

/** Every endpoint, aliases included. */
export const routeTable: readonly TableRoute[] = roles.flatMap((role) =>
  Object.entries(endpoints[role]).flatMap(([sticky, lines]) =>
    lines.flatMap((line) => withAliases(line, role, sticky === 'none' ? undefined : (sticky as Sticky))),
  ),
)

const router = createRouter<{ readonly to: RoutedTo; readonly roomAt: number }>()
for (const route of routeTable) {
  const names: readonly string[] = route.path.match(/(?<=\/:)[^/]+/g) ?? []
  router.add(route.method, route.path, {
    to: { role: route.role, sticky: route.sticky, room: undefined },
    roomAt: route.sticky === 'room' ? names.indexOf('roomId') : -1,
  })
}
const byPrefix = prefixes.map(({ prefix, role, sticky }) => ({ prefix, to: { role, sticky, room: undefined } }))

/** `path` is the raw path of the request, with or without its query. Undefined for what is no path of this server, such as
 *  `/metrics` of a role: nobody outside may reach that through a proxy. A path whose method does not exist goes where its
 *  other methods go, which answers what the client has to know. */
export function roleOf(method: string, path: string): RoutedTo | undefined {
  const query = path.indexOf('?')
  const plain = query < 0 ? path : path.slice(0, query)
  const match = router.find(method === 'HEAD' ? 'GET' : (method as Method), plain)
  if (match.found === 'endpoint') {
    const { to, roomAt } = match.endpoint.target
    return roomAt < 0 ? to : { ...to, room: match.values[roomAt] }
  }
  const other = match.found === 'path' ? match.methods[0] : undefined
  if (other !== undefined && other !== method) return roleOf(other, plain)
  for (const { prefix, to } of byPrefix) if (plain.startsWith(prefix)) return to
  return undefined
}

function withAliases(line: string, role: Role, sticky: Sticky | undefined): TableRoute[] {
  const space = line.indexOf(' ')
  const method = line.slice(0, space) as Method
  const path = line.slice(space + 1)
  const route = { method, path, role, sticky }
  return [route, ...aliasesOf(path).map((alias) => ({ ...route, path: alias }))]
}
