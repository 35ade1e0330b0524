/** The database handles, branded apart: handlers read, only `functions/main` writes. */
import postgres from 'postgres'
import { outlivingPool } from './pool.ts'

declare const readBrand: unique symbol
declare const writeBrand: unique symbol

type Types = { bigint: number }
/** Reads. Where it reaches Postgres its role may hold `select` only. */
export type ReadSql = postgres.Sql<Types> & { readonly [readBrand]?: true }
/** A handle of main, outside a transaction. */
export type MainSql = postgres.Sql<Types> & { readonly [writeBrand]: true }
/** A transaction of main. */
export type WriteTx = postgres.TransactionSql<Types> & { readonly [writeBrand]: true }

export interface ConnectOptions {
  readonly url: string
  readonly connections: number
  readonly applicationName: string
  /** Seconds an idle connection is kept; 0 for ever. */
  readonly idleTimeoutS?: number
  /** Whether statements are prepared by name; default true. */
  readonly prepare?: boolean
  /** A role of the database that the login takes on as it connects. */
  readonly role?: string
  /** A query without an answer for this long fails; default 30,000. */
  readonly answerMs?: number
}

const answerMsDefault = 30_000
/** A server that takes connections and says nothing is away. */
const connectTimeoutS = 5
/** Between attempts of one connection. The driver's own grows to twenty seconds, in which requests would wait for a server
 *  that is back. */
const reconnectDelayS = 0.1

const int8 = 20
/** Numbers for int8: nids, positions and times stay below 2^53. */
const types = {
  bigint: { to: int8, from: [int8], parse: Number, serialize: (n: number) => String(n) },
  bigintArray: { to: 1016, from: [1016], parse: parseNumbers, serialize: (list: readonly number[]) => `{${list}}` },
  textArray: { to: 1009, from: [], parse: String, serialize: (list: readonly string[]) => `{${list.map(quoted)}}` },
}
/** Array types by element, for `sql.array(list, 20)`: the driver would ask the server for these, on every connection. */
const arrayTypes = { [int8]: 1016, 25: 1009 }

function parseNumbers(text: string): number[] {
  return text === '{}' ? [] : text.slice(1, -1).split(',').map(Number)
}
function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`
}

function connect(options: ConnectOptions): postgres.Sql<Types> {
  return outlivingPool({ make: (lost) => client(options, lost), answerMs: options.answerMs ?? answerMsDefault })
}

function client(options: ConnectOptions, lost: () => void): postgres.Sql<Types> {
  const sql = postgres(withoutSocket(options.url), {
    ...socketOf(options.url),
    max: options.connections,
    types,
    connection: {
      application_name: options.applicationName,
      ...(options.role === undefined ? {} : { role: options.role }),
    },
    idle_timeout: options.idleTimeoutS ?? 0,
    connect_timeout: connectTimeoutS,
    backoff: () => reconnectDelayS,
    prepare: options.prepare ?? true,
    fetch_types: false,
    onnotice: () => {},
    onclose: lost,
  })
  const { shared } = sql.options as unknown as { shared: { typeArrayMap: Record<number, number> } }
  Object.assign(shared.typeArrayMap, arrayTypes)
  return sql as unknown as postgres.Sql<Types>
}

/** As libpq has it, `?host=/folder` names the folder of a Unix socket: postgres://user@localhost/db?host=/run/postgresql */
function socketOf(url: string): { host?: string } {
  const folder = new URL(url).searchParams.get('host')
  return folder === null ? {} : { host: folder }
}
function withoutSocket(url: string): string {
  const parsed = new URL(url)
  parsed.searchParams.delete('host')
  return parsed.href
}

export function connectForReading(options: ConnectOptions): ReadSql {
  return connect(options) as ReadSql
}

export function connectForWriting(options: ConnectOptions): MainSql {
  return connect(options) as unknown as MainSql
}

/** Text that Postgres can hold: a Matrix string may hold U+0000, a text column may not. Reversible: U+E000 is the escape. */
export function pgText(text: string): string {
  return /[\0\uE000]/.test(text) ? text.replaceAll('\uE000', '\uE0001').replaceAll('\0', '\uE0000') : text
}
export function fromPgText(text: string): string {
  return text.includes('\uE000') ? text.replaceAll('\uE0000', '\0').replaceAll('\uE0001', '\uE000') : text
}
