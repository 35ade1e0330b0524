/** What `@upstash/redis` asks of a transport, over anything that takes commands. Replies come as they are: strings, integers,
 *  null and arrays. */
import { Redis } from '@upstash/redis'
import type { Commander, Outcome, PubSub, RedisCommand, Reply } from './commander.ts'
import { RedisReplyError } from './errors.ts'

/** A request of the SDK, as far as transports look at it. */
export interface SdkRequest {
  path?: string[]
  body?: unknown
  headers?: Record<string, string>
  onMessage?: (line: string) => void
  isStreaming?: boolean
  signal?: AbortSignal
}

type SdkResponse<T> = { result?: T; error?: string }

export interface SdkRequester {
  request<T = unknown>(request: SdkRequest): Promise<SdkResponse<T>>
}

/** The SDK's client without its guessing: the text `123` stays text. */
class PlainRedis extends Redis {
  constructor(requester: SdkRequester) {
    super(requester)
    // The constructor for requesters takes no options.
    this.opts = { automaticDeserialization: false }
  }
}

export function sdkClient(requester: SdkRequester): Redis {
  return new PlainRedis(requester)
}

export function commanderRequester(commander: Commander, pubSub: PubSub): SdkRequester {
  async function answer({ path, body, onMessage, signal }: SdkRequest): Promise<unknown> {
    const [kind, ...names] = path ?? []
    switch (kind) {
      case undefined:
        return single(await outcomeOf(commander.send(redisCommand(body))))
      case 'pipeline':
        return (await commander.pipeline(redisCommands(body))).map(single)
      case 'multi-exec':
        return (await commander.transaction(redisCommands(body))).map(single)
      case 'subscribe':
      case 'psubscribe':
        return subscribe(pubSub, kind, names[0] ?? '', { onMessage, signal })
      default:
        throw new TypeError('a request of a kind that is not known')
    }
  }
  return { request: <T>(request: SdkRequest) => answer(request) as Promise<SdkResponse<T>> }
}

async function outcomeOf(reply: Promise<Reply>): Promise<Outcome> {
  try {
    return { result: await reply }
  } catch (error) {
    if (error instanceof RedisReplyError) return { error: error.message }
    throw error
  }
}

function single(outcome: Outcome): SdkResponse<Reply> {
  return 'error' in outcome ? { error: outcome.error } : { result: outcome.result }
}

/** Numbers and booleans become text, as JSON over REST would make them. */
export function redisCommand(body: unknown): RedisCommand {
  if (!Array.isArray(body) || body.length === 0) throw new TypeError('a command is a list that is not empty')
  return body.map((part: unknown) => {
    if (typeof part === 'string') return part
    if (typeof part === 'number' || typeof part === 'boolean') return String(part)
    throw new TypeError('an argument of a command is text, a number or a boolean')
  }) as unknown as RedisCommand
}

export function redisCommands(body: unknown): RedisCommand[] {
  if (!Array.isArray(body)) throw new TypeError('a list of commands was expected')
  return body.map(redisCommand)
}

/** The SDK's own form of a subscription: lines such as `message,channel,text`. Resolves once it has taken hold. */
function subscribe(
  pubSub: PubSub,
  kind: 'subscribe' | 'psubscribe',
  name: string,
  {
    onMessage,
    signal,
  }: { readonly onMessage: ((line: string) => void) | undefined; readonly signal: AbortSignal | undefined },
): Promise<{ result: 1 }> {
  return new Promise((resolve, reject) => {
    const up = () => {
      onMessage?.(`${kind},${name},1`)
      resolve({ result: 1 })
    }
    const down = () => undefined
    const end =
      kind === 'subscribe'
        ? pubSub.subscribe(name, { up, down, message: (text) => onMessage?.(`message,${name},${text}`) })
        : pubSub.psubscribe(name, {
            up,
            down,
            message: (text, channel) => onMessage?.(`pmessage,${name},${channel},${text}`),
          })
    const abort = () => {
      end()
      reject(new DOMException('The subscription was ended', 'AbortError'))
    }
    if (signal?.aborted) abort()
    else signal?.addEventListener('abort', abort, { once: true })
  })
}
