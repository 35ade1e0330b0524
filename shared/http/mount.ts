/** Serves declared routes: finds, limits, authenticates, parses, calls, answers. One handler of Hono does it all, so a
 *  request passes no chain of middleware. Several roles may be mounted on one app; each brings its own dependencies. */
import type { Context, Hono } from 'hono'
import type { Requester } from '../auth/requester.ts'
import { isJsonObject } from '../matrix/json-value.ts'
import { lockedError, MatrixError, suspendedError } from '../matrix/matrix-error.ts'
import type { RequestNotes } from './access-log.ts'
import { aliasesOf } from './aliases.ts'
import { readJson } from './body.ts'
import { type NodeExchange, sendBytes, statusSent } from './bytes-reply.ts'
import { type ErrorLog, errorResponse, matrixErrorResponse } from './error-response.ts'
import { preflightHeaders } from './headers.ts'
import type { Limiter } from './rate-limit.ts'
import { jsonReply } from './reply.ts'
import { type ClientAddress, LazyRequestInfo } from './request-info.ts'
import { BytesReply, type Method, type RequestInfo, type Route } from './route.ts'
import { createRouter, type Endpoint, type Router } from './router.ts'
import { parsePart } from './validate.ts'

/** Who holds this token. Throws M_UNKNOWN_TOKEN for nobody; answers without a promise where it can. */
export type Authenticate = (token: string, request: RequestInfo) => Requester | Promise<Requester>

export interface MountContext<Deps> {
  readonly deps: Deps
  readonly authenticate: Authenticate
  /** Resolves when this process knows all that was acknowledged before the request, by whichever process; undefined if
   *  it does. Absent where there is one process. */
  readonly fresh?: (() => Promise<void> | undefined) | undefined
  readonly limiter: Limiter
  readonly clientAddress: ClientAddress
  readonly log: ErrorLog
  /** Largest body of routes that name none, in bytes. */
  readonly bodyBytesMax?: number
  /** Gives each route what is told of its requests, for metrics; asked once a route. */
  readonly observe?: ((route: { readonly method: Method; readonly path: string }) => RouteObserver) | undefined
}

/** Called for every request of one route; it must cost next to nothing. */
export interface RouteObserver {
  begin(): void
  /** When the answer is there; its body may still be on its way. */
  end(status: number, elapsedMs: number): void
}

interface Target {
  readonly route: Route<unknown>
  readonly observer: RouteObserver | undefined
  readonly context: MountContext<unknown>
}

const defaultBodyBytesMax = 128 * 1024
const servedPrefix = /^\/(?:_matrix|_synapse|\.well-known)\//
const routers = new WeakMap<Hono, Router<Target>>()

/** Answers a request that no route of the app takes; undefined where it is nobody else's either. */
export type Elsewhere = (c: Context, path: string) => Promise<Response> | undefined
const elsewheres = new WeakMap<Hono, Elsewhere>()

/** From now on, what no route of the app takes goes there first. */
export function serveElsewhere(app: Hono, elsewhere: Elsewhere): void {
  elsewheres.set(app, elsewhere)
}

/** Adds the routes to the app. Paths are served under their old names too. Whatever else the app serves under other
 *  prefixes is left alone; under Matrix's own an unknown path is M_UNRECOGNIZED. */
export function mount<Deps>(app: Hono, routes: readonly Route<Deps>[], context: MountContext<Deps>): void {
  const router = routers.get(app) ?? install(app, context.log)
  for (const route of routes) {
    const target = { route, context, observer: context.observe?.(route) } as unknown as Target
    for (const path of [route.path, ...aliasesOf(route.path)]) router.add(route.method, path, target)
  }
}

function install(app: Hono, log: ErrorLog): Router<Target> {
  const router = createRouter<Target>()
  routers.set(app, router)
  app.all('*', (c, next) => {
    const url = c.req.raw.url
    const pathStart = url.indexOf('/', url.indexOf('://') + 3)
    const queryStart = url.indexOf('?', pathStart)
    const path = queryStart < 0 ? url.slice(pathStart) : url.slice(pathStart, queryStart)
    const search = queryStart < 0 ? '' : url.slice(queryStart + 1)
    const requested = c.req.raw.method
    if (requested === 'OPTIONS') return new Response(null, { status: 204, headers: preflightHeaders })
    const match = router.find(requested === 'HEAD' ? 'GET' : (requested as Method), path)
    if (match.found === 'path' || match.found === 'nothing') {
      const answered = elsewheres.get(app)?.(c, path)
      if (answered) return answered
    }
    switch (match.found) {
      case 'endpoint':
        return answer(c, match.endpoint, match.values, search)
      case 'path': {
        const response = matrixErrorResponse(
          new MatrixError('M_UNRECOGNIZED', `${requested} is not a method of this path`, { status: 405 }),
        )
        response.headers.set('Allow', [...match.methods, 'OPTIONS'].join(', '))
        return response
      }
      case 'bad-encoding':
        return matrixErrorResponse(new MatrixError('M_INVALID_PARAM', 'The path is not percent-encoded UTF-8'))
      case 'nothing':
        return servedPrefix.test(path) ? unknownPath() : next()
    }
  })
  app.notFound(unknownPath)
  app.onError((error, c) => errorResponse(error, { method: c.req.method, path: '' }, log))
  return router
}

function unknownPath(): Response {
  return matrixErrorResponse(new MatrixError('M_UNRECOGNIZED', 'This path is not known'))
}

async function answer(
  c: Context,
  { target: { route, context, observer }, names }: Endpoint<Target>,
  values: readonly string[],
  search: string,
): Promise<Response> {
  const notes = c.env as RequestNotes | undefined
  if (notes) notes.route = route.path
  const startedAt = observer ? performance.now() : 0
  observer?.begin()
  let response: Response
  try {
    response = await call(c, route, context, names, values, search)
  } catch (error) {
    const { method, path } = route
    response = errorResponse(error, { method, path, request_id: notes?.request_id }, context.log)
  }
  observer?.end(statusSent(response, (c.env ?? {}) as NodeExchange), performance.now() - startedAt)
  return response
}

async function call(
  c: Context,
  route: Route<unknown>,
  context: MountContext<unknown>,
  names: readonly string[],
  values: readonly string[],
  search: string,
): Promise<Response> {
  const raw = c.req.raw
  const exchange = (c.env ?? {}) as NodeExchange
  const { incoming } = exchange
  const request = new LazyRequestInfo(raw, incoming, context.clientAddress, search)

  let user: Requester | undefined
  if (route.auth !== 'none') {
    // Before the token is looked at: a logout elsewhere is one of the things to know.
    const behind = context.fresh?.()
    if (behind) await behind
    const token = tokenOf(raw, request, search)
    if (token !== undefined) {
      const found = context.authenticate(token, request)
      user = found instanceof Promise ? await found : found
      // For the access log, which sees the request from outside.
      if (c.env) (c.env as RequestNotes).user_id = user.user_id
      if (user.locked && route.locked !== 'allowed') throw lockedError()
      if (route.auth === 'admin' && !user.admin) {
        throw new MatrixError('M_FORBIDDEN', 'You are not an administrator of this server')
      }
      if (user.guest && route.auth === 'user') {
        throw new MatrixError('M_GUEST_ACCESS_FORBIDDEN', 'Guests may not do this')
      }
      if (user.suspended && route.suspended === 'refused') throw suspendedError()
    } else if (route.auth !== 'optional') throw new MatrixError('M_MISSING_TOKEN', 'An access token is needed')
  }
  if (route.limit) {
    const taken = context.limiter.take(route.limit, user?.user_id ?? request.ip)
    if (taken) await taken
  }

  const params = route.params && parsePart(route.params, record(names, values), 'path')
  const query = route.query && parsePart(route.query, queryRecord(request, search), 'query')
  let body: unknown
  if (route.body) {
    body = await readJson(raw, incoming, route.bodyBytesMax ?? context.bodyBytesMax ?? defaultBodyBytesMax)
    if (body === undefined) {
      const mayBeEmpty = typeof route.emptyBody === 'function' ? route.emptyBody(request.searchParams) : route.emptyBody
      if (!mayBeEmpty) throw new MatrixError('M_NOT_JSON', 'The body is empty')
      body = {}
    }
    // Every body of the API is an object; a schema alone would take an array for one.
    if (!isJsonObject(body)) throw new MatrixError('M_BAD_JSON', 'The body must be a JSON object')
    body = parsePart(route.body, body, 'body')
  }

  const input = { params, query, body, user, request }
  const handled = route.handle(input as never, context.deps)
  const reply = handled instanceof Promise ? await handled : handled
  const onBroken = (error: unknown) =>
    context.log.error({ method: route.method, path: route.path, err: error }, 'a reply broke off')
  return reply instanceof BytesReply ? sendBytes(reply, exchange, onBroken) : jsonReply(reply, onBroken)
}

/** The token of the Authorization header or, where there is none, of the query. */
function tokenOf(raw: Request, request: RequestInfo, search: string): string | undefined {
  const header = raw.headers.get('authorization')
  if (header !== null && /^bearer /i.test(header)) return header.slice(7).trim()
  if (!search.includes('access_token=')) return undefined
  return request.searchParams.get('access_token') ?? undefined
}

function record(names: readonly string[], values: readonly string[]): Record<string, string> {
  const params: Record<string, string> = {}
  for (let i = 0; i < names.length; i++) params[names[i] ?? ''] = values[i] ?? ''
  return params
}

function queryRecord(request: RequestInfo, search: string): Record<string, string> {
  return search === '' ? {} : Object.fromEntries(request.searchParams)
}
