/** One connection to one Redis server, from the client library's own parts: its socket, its queue and its codec. The library's
 *  front, with a method for each of Redis's four hundred commands, costs every process a tenth of a second at its start, and
 *  the SDK above has those methods already. The version is pinned, and the contract suite runs on these parts. */
import { setImmediate } from 'node:timers'
import queueModule from '@redis/client/dist/lib/client/commands-queue.js'
import { PUBSUB_TYPE, type PubSubType } from '@redis/client/dist/lib/client/pub-sub.js'
import socketModule, { type RedisSocketOptions } from '@redis/client/dist/lib/client/socket.js'
import { ErrorReply } from '@redis/client/dist/lib/errors.js'
import type { Address } from './url.ts'

/** One server, and how to come in. */
export interface NodeTarget {
  readonly at: Address | { readonly path: string }
  readonly username?: string | undefined
  readonly password?: string | undefined
  readonly database: number
  /** Certificates (PEM) that vouch for the server beside Node's own. */
  readonly tls?: { readonly ca?: string | undefined } | undefined
  /** Sentinel may name a server that was demoted a moment ago: then it is refused. */
  readonly mustBeMaster?: boolean | undefined
}

export type MessageListener = (message: string, channel: string) => void

// Node hands out a CommonJS module with its default inside; the test runner hands out the default itself.
const RedisCommandsQueue = defaultOf(queueModule)
const RedisSocket = defaultOf(socketModule)

/** RESP2 has what the REST interface has: strings, integers, nulls and arrays. */
const respVersion = 2

/** Lives once: it is not connected again after a loss. */
export class NodeClient {
  readonly #target: NodeTarget
  readonly #name: string
  readonly #queue: InstanceType<typeof RedisCommandsQueue>
  readonly #socket: InstanceType<typeof RedisSocket>
  #writing = false

  constructor(target: NodeTarget, options: { name: string; connectTimeoutMs: number; onError(error: unknown): void }) {
    this.#target = target
    this.#name = options.name
    this.#queue = new RedisCommandsQueue(respVersion, undefined, () => undefined, options.name)
    this.#socket = new RedisSocket(
      () => this.#handshake(),
      options.name,
      socketOptions(target, options.connectTimeoutMs),
    )
    this.#socket
      .on('data', (chunk: Buffer) => {
        try {
          this.#queue.decoder.write(chunk)
        } catch (error) {
          // No more can be told apart of what comes on this connection.
          this.#queue.resetDecoder()
          options.onError(error)
        }
      })
      .on('error', (error: Error) => {
        this.#queue.flushAll(error)
        options.onError(error)
      })
      .on('ready', () => this.#write())
      .on('drain', () => this.#write())
  }

  /** Rejects when the server can't be reached, or doesn't let us in. */
  async connect(): Promise<void> {
    await this.#socket.connect()
  }

  get isReady(): boolean {
    return this.#socket.isReady
  }

  /** Its plain reply. Rejects with the library's ErrorReply for an error reply, with another error when the connection is lost. */
  send(command: readonly string[]): Promise<unknown> {
    if (!this.#socket.isReady) return Promise.reject(new Error('Socket is not ready'))
    const reply = this.#queue.addCommand<unknown>(command)
    this.#writeSoon()
    return reply
  }

  subscribe(name: string, listener: MessageListener, pattern: boolean): Promise<void> {
    const taken = this.#queue.subscribe<false>(pubSubType(pattern), name, listener)
    this.#writeSoon()
    return taken ?? Promise.resolve()
  }

  unsubscribe(name: string, listener: MessageListener, pattern: boolean): Promise<void> {
    const released = this.#queue.unsubscribe<false>(pubSubType(pattern), name, listener)
    this.#writeSoon()
    return released ?? Promise.resolve()
  }

  /** Ends the connection; what waits for an answer is rejected. */
  destroy(): void {
    this.#queue.flushAll(new Error('Connection given up'))
    this.#socket.destroy()
  }

  async #handshake(): Promise<void> {
    const { username, password, database, mustBeMaster } = this.#target
    const commands: string[][] = []
    if (password !== undefined)
      commands.push(username === undefined ? ['AUTH', password] : ['AUTH', username, password])
    commands.push(['CLIENT', 'SETNAME', this.#name])
    if (database !== 0) commands.push(['SELECT', String(database)])
    commands.push(['PING'])
    if (mustBeMaster) commands.push(['ROLE'])
    const replies = commands.map((command) => this.#queue.addCommand<unknown>(command))
    this.#write()
    const role = (await Promise.all(replies)).at(-1)
    if (mustBeMaster && !(Array.isArray(role) && role[0] === 'master')) throw new Error('No master yet')
  }

  /** What is given in one turn of the event loop goes out in one piece. */
  #writeSoon(): void {
    if (this.#writing || !this.#socket.isReady) return
    this.#writing = true
    setImmediate(() => {
      this.#writing = false
      this.#write()
    })
  }

  /** As one text: a socket that is given each argument by itself hands the system a long list of small pieces, which costs
   *  more than all else about a command. */
  #write(): void {
    let text = ''
    for (const parts of this.#queue.commandsToWrite() as Iterable<readonly string[]>)
      for (const part of parts) text += part
    if (text !== '') this.#socket.write([[text]])
  }
}

/** The text of an error reply; undefined for any other failure. */
export function errorReply(error: unknown): string | undefined {
  return error instanceof ErrorReply ? error.message : undefined
}

function pubSubType(pattern: boolean): PubSubType {
  return pattern ? PUBSUB_TYPE.PATTERNS : PUBSUB_TYPE.CHANNELS
}

function socketOptions({ at, tls }: NodeTarget, connectTimeout: number): RedisSocketOptions {
  const common = { connectTimeout, reconnectStrategy: false as const }
  if ('path' in at) return { ...common, path: at.path, tls: false }
  if (!tls) return { ...common, host: at.host, port: at.port, tls: false }
  return { ...common, host: at.host, port: at.port, tls: true, ...(tls.ca === undefined ? {} : { ca: tls.ca }) }
}

function defaultOf<T>(module: { readonly default: T }): T {
  return module.default ?? (module as unknown as T)
}
