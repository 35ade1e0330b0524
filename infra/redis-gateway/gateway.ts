/** A small REST interface in front of a Redis, in the form of Upstash's: for handlers that speak only HTTP. Commands, pipelines,
 *  transactions, and messages as server-sent events; every path asks for the token. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Logger } from '../../shared/logging.ts'
import type { Outcome, Reply } from '../../shared/redis/commander.ts'
import type { RedisTransport } from '../../shared/redis/connection.ts'
import { RedisAwayError, RedisReplyError } from '../../shared/redis/errors.ts'
import { redisCommands } from '../../shared/redis/requester.ts'
import { refusal } from './allowed.ts'
import { streamMessages } from './messages.ts'

export interface GatewayOptions {
  readonly transport: RedisTransport
  /** Any of these opens it: two while they are being changed. */
  readonly tokens: readonly string[]
  readonly log: Pick<Logger, 'info' | 'warn' | 'error'>
  readonly bodyBytesMax?: number
  readonly commandsMax?: number
}

export interface Gateway {
  readonly server: Server
  /** Takes no more requests, ends the streams, finishes what is under way. */
  close(): Promise<void>
}

const defaultBodyBytesMax = 16 * 1024 * 1024
const defaultCommandsMax = 10_000
/** Longer than the clients' own time-outs, shorter than anybody's patience. */
const requestTimeoutMs = 10_000

/** What the caller did wrong, or what Redis can't do now; its message may be shown. */
class Refusal extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export function createGateway(options: GatewayOptions): Gateway {
  const { transport, log, bodyBytesMax = defaultBodyBytesMax, commandsMax = defaultCommandsMax } = options
  if (options.tokens.length === 0) throw new TypeError('a gateway without a token would be open to everybody')
  const digests = options.tokens.map(digestOf)
  const streams = new Set<() => void>()

  const server = createServer({ requestTimeout: requestTimeoutMs }, (request, response) => {
    handle(request, response).catch((error: unknown) => {
      if (response.headersSent) return void response.destroy()
      const { status, message } = told(error)
      if (status === 500) log.error({ err: error }, 'a request failed')
      // What was not read of a body would be taken for the next request.
      if (!request.complete) response.setHeader('connection', 'close')
      if (status === 503) response.setHeader('retry-after', '1')
      answer(response, status, { error: message })
    })
  })

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!authorized(request.headers.authorization, digests)) {
      throw new Refusal(401, 'Unauthorized: the token is missing or wrong')
    }
    if (request.method !== 'POST') throw new Refusal(405, 'Method Not Allowed: POST alone is taken')
    const { pathname } = new URL(request.url ?? '/', 'http://gateway')
    const [kind = '', name, ...rest] = pathname.slice(1).split('/')
    if ((kind === 'subscribe' || kind === 'psubscribe') && name !== undefined && rest.length === 0) {
      await readBody(request, bodyBytesMax)
      const end = await streamMessages({ pubSub: transport.pubSub, kind, name: decoded(name), response })
      streams.add(end)
      response.once('close', () => streams.delete(end))
      return
    }
    if (name !== undefined) throw new Refusal(404, 'Not Found')
    const body = parsed(await readBody(request, bodyBytesMax))
    const encode = encoding(request)
    switch (kind) {
      case '': {
        const [command] = checked([body], commandsMax)
        return answer(response, 200, { result: encode(await transport.commander.send(command!)) })
      }
      case 'pipeline':
        return answer(response, 200, items(await transport.commander.pipeline(checked(body, commandsMax)), encode))
      case 'multi-exec':
        return answer(response, 200, items(await transport.commander.transaction(checked(body, commandsMax)), encode))
      default:
        throw new Refusal(404, 'Not Found')
    }
  }

  return {
    server,
    async close() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const end of streams) end()
      server.closeIdleConnections()
      await closed
    },
  }
}

function told(error: unknown): { status: number; message: string } {
  if (error instanceof Refusal) return error
  if (error instanceof RedisReplyError) return { status: 400, message: error.message }
  if (error instanceof RedisAwayError) return { status: 503, message: error.message }
  return { status: 500, message: 'Internal Server Error' }
}

function checked(body: unknown, commandsMax: number) {
  let commands: ReturnType<typeof redisCommands>
  try {
    if (Array.isArray(body) && body.length > commandsMax) throw new TypeError('too many commands in one request')
    commands = redisCommands(body)
  } catch (error) {
    throw new Refusal(400, `ERR ${(error as Error).message}`)
  }
  for (const command of commands) {
    const problem = refusal(command)
    if (problem !== undefined) throw new Refusal(400, problem)
  }
  return commands
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    throw new Refusal(400, 'ERR the name of the channel is malformed')
  }
}

function parsed(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8')) as unknown
  } catch {
    // The parser quotes what it read.
    throw new Refusal(400, 'ERR the body is not JSON')
  }
}

function readBody(request: IncomingMessage, bytesMax: number): Promise<Buffer> {
  const tooLarge = () => new Refusal(413, 'ERR the body is too large')
  if (Number(request.headers['content-length'] ?? 0) > bytesMax) return Promise.reject(tooLarge())
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= bytesMax) return void chunks.push(chunk)
      request.pause()
      reject(tooLarge())
    })
    request.once('end', () => resolve(Buffer.concat(chunks)))
    request.once('error', () => reject(new Refusal(400, 'ERR the body broke off')))
    request.once('close', () => reject(new Refusal(400, 'ERR the body broke off')))
  })
}

function authorized(header: string | undefined, digests: readonly Buffer[]): boolean {
  const given = digestOf(/^Bearer (\S+)$/i.exec(header ?? '')?.[1] ?? '')
  // All are compared, whichever fits.
  return digests.map((digest) => timingSafeEqual(digest, given)).includes(true)
}

/** Of one length, whatever the token's is. */
function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

type Encode = (reply: Reply) => Reply

/** Base64 where the caller asks for it: every string but the status `OK`, which only stands at the top. */
function encoding(request: IncomingMessage): Encode {
  if (request.headers['upstash-encoding'] !== 'base64') return (reply) => reply
  return (reply) => (reply === 'OK' ? reply : inBase64(reply))
}

function inBase64(reply: Reply): Reply {
  if (typeof reply === 'string') return Buffer.from(reply, 'utf8').toString('base64')
  return Array.isArray(reply) ? reply.map(inBase64) : reply
}

function items(outcomes: readonly Outcome[], encode: Encode): object[] {
  return outcomes.map((outcome) => ('error' in outcome ? { error: outcome.error } : { result: encode(outcome.result) }))
}

function answer(response: ServerResponse, status: number, body: object): void {
  const text = Buffer.from(JSON.stringify(body), 'utf8')
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': text.length,
    'cache-control': 'no-store',
  })
  response.end(text)
}
