/** A route is data: schema, handler, reply. Handlers hold no SQL, no status codes and no try/catch; `mount` parses,
 *  authenticates, limits and answers. The route table, the edge and the tests are derived from these declarations. */
import type * as v from 'valibot'
import type { Requester } from '../auth/requester.ts'
import type { ServerName } from '../matrix/ids.ts'
import type { Pieces } from '../media/pieces.ts'

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'
export type Role = 'client' | 'sync' | 'federation' | 'media'

/** Which bucket of `rate_limits` in the configuration a call draws from. */
export type RateLimit =
  | 'message'
  | 'registration'
  | 'login'
  | 'joins'
  | 'invites'
  | 'room_creation'
  | 'account'
  | 'threepid_validation'
  | 'read'
  | 'url_preview'
  | 'media_upload'
  | 'media_download'
  | 'federation'

export interface RequestInfo {
  readonly method: string
  /** The client's address, after trusted proxies. */
  readonly ip: string
  readonly userAgent: string | undefined
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal
  /** The raw query string's values, all of them, for parameters that repeat (`at_least_one=…&server_name=a&server_name=b`). */
  readonly searchParams: URLSearchParams
  /** A header's value; undefined where there is none. */
  header(name: string): string | undefined
  /** The body as it comes, for routes that declare none; nobody else reads it. Rejects where the connection ends before it
   *  does. To stop in the middle leaves the connection as it is. */
  body(): AsyncIterable<Uint8Array>
}

/** JSON text in pieces, sent as they come; nothing is serialised again. */
export class RawJson {
  readonly pieces: Iterable<string> | AsyncIterable<string>
  constructor(pieces: string | Iterable<string> | AsyncIterable<string>) {
    this.pieces = typeof pieces === 'string' ? [pieces] : pieces
  }
}

/** An answer that is no JSON, such as a page. */
export class TextReply {
  readonly text: string
  readonly headers: Readonly<Record<string, string>>
  readonly status: number
  constructor(text: string, headers: Readonly<Record<string, string>>, status = 200) {
    this.text = text
    this.headers = headers
    this.status = status
  }
}

/** An answer of bytes, with a status and headers of its own. A stream is read as fast as the client takes it, and is destroyed
 *  where the client goes away. */
export class BytesReply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Pieces | Uint8Array | undefined
  constructor(status: number, headers: Readonly<Record<string, string>>, body?: Pieces | Uint8Array) {
    this.status = status
    this.headers = headers
    this.body = body
  }
}

type Schema = v.GenericSchema<unknown, unknown>
type Out<S> = S extends v.GenericSchema<unknown, infer Output> ? Output : undefined

export interface RouteInput<Params, Query, Body, User, Origin> {
  readonly params: Params
  readonly query: Query
  readonly body: Body
  readonly user: User
  /** The server that signed the request. */
  readonly origin: Origin
  readonly request: RequestInfo
}

/** `user`: a token of a full account; `admin`: of an administrator; `guest`: guests too; `optional`: known if a token is
 *  there; `server`: the signature of another server; `none`. */
export type RouteAuth = 'user' | 'admin' | 'guest' | 'optional' | 'server' | 'none'

export interface RouteDeclaration<
  Deps,
  P extends Schema | undefined,
  Q extends Schema | undefined,
  B extends Schema | undefined,
  A extends RouteAuth,
> {
  readonly method: Method
  /** `:name` for parameters; `*` at the end takes the rest. Without the version prefix's aliases: `r0` paths are served as `v3`. */
  readonly path: string
  /** Anchor in the specification. */
  readonly spec: string
  readonly auth: A
  /** Whether a suspended user may do this; absent: yes. https://spec.matrix.org/v1.19/client-server-api/#account-suspension */
  readonly suspended?: 'refused'
  /** Whether a locked user may do this; absent: no. https://spec.matrix.org/v1.19/client-server-api/#account-locking */
  readonly locked?: 'allowed'
  readonly limit?: RateLimit
  /** What the edge may stick by; a cache hint only. */
  readonly sticky?: 'user' | 'room' | 'origin'
  readonly params?: P
  /** Values arrive as strings; the last of a repeated key counts. */
  readonly query?: Q
  /** Absent: the body is not read. A missing or empty body parses as `{}` when `emptyBody` is set, or the query is one
   *  that it is true of. */
  readonly body?: B
  readonly emptyBody?: boolean | ((query: URLSearchParams) => boolean)
  /** A browser may send the body as a form, whose values are strings. */
  readonly form?: boolean
  /** Open to users whose accounts have expired. */
  readonly afterExpiry?: boolean
  /** Largest body in bytes; default 128 KiB. */
  readonly bodyBytesMax?: number
  /** The reply is JSON: an object, or RawJson for what is ready-made; a TextReply and a BytesReply go out as they are. */
  handle(
    input: RouteInput<
      Out<P>,
      Out<Q>,
      Out<B>,
      A extends 'none' | 'server' ? undefined : A extends 'optional' ? Requester | undefined : Requester,
      A extends 'server' ? ServerName : undefined
    >,
    deps: Deps,
  ): Promise<object> | object
}

/** A route whose types have been forgotten: what `mount` takes. */
export interface Route<Deps> {
  readonly method: Method
  readonly path: string
  readonly spec: string
  readonly auth: RouteAuth
  readonly suspended?: 'refused'
  readonly locked?: 'allowed'
  readonly limit?: RateLimit
  readonly sticky?: 'user' | 'room' | 'origin'
  readonly params?: Schema
  readonly query?: Schema
  readonly body?: Schema
  readonly emptyBody?: boolean | ((query: URLSearchParams) => boolean)
  readonly form?: boolean
  readonly afterExpiry?: boolean
  readonly bodyBytesMax?: number
  handle(input: never, deps: Deps): Promise<object> | object
}

/** Declares the routes of one role: `const route = routesFor<ClientDeps>()`. */
export function routesFor<Deps>() {
  return <
    const A extends RouteAuth,
    P extends Schema | undefined = undefined,
    Q extends Schema | undefined = undefined,
    B extends Schema | undefined = undefined,
  >(
    declaration: RouteDeclaration<Deps, P, Q, B, A>,
  ): Route<Deps> => declaration as unknown as Route<Deps>
}
