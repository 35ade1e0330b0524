/** Redis over Upstash's REST API, by the SDK's own transport. It runs in Workers too: nothing of Node is needed here. */
import { Redis } from '@upstash/redis'
import type { RedisCommand } from './commander.ts'
import type { RedisConnection } from './connection.ts'
import { RedisAwayError, RedisReplyError, RedisUrlError, withoutArguments } from './errors.ts'
import { redisCommand, redisCommands, type SdkRequest, type SdkRequester, sdkClient } from './requester.ts'
import { openEventStream, openRestSubscription } from './rest-subscription.ts'

const requestTimeoutMs = 2_000
/** Commands that are given in one turn of the event loop travel together, so many at most. */
const batchMax = 500
const batchCharactersMax = 512 * 1024
const pendingMax = 20_000
/** After a request that nobody answered, one at a time tries so often; the others fail at once. */
const probeEveryMs = 500

export interface RestOptions {
  /** Without a slash at its end. */
  readonly url: string
  readonly token?: string | undefined
  readonly log: { warn(fields: Record<string, unknown>, message: string): void }
}

/** Gives its transport away, which alone has the wire format. */
class Transport extends Redis {
  get requester(): SdkRequester {
    return this.client as SdkRequester
  }
}

/** Throws RedisUrlError without a token. */
export function restRedis({ url, token, log }: RestOptions): RedisConnection {
  if (token === undefined || /\s/.test(token)) throw new RedisUrlError('https:// needs redis.token')
  const closed = new AbortController()
  const { requester: transport } = new Transport({
    url,
    token,
    // One try: a command that was sent may have been done. (`false` still makes two.)
    retry: { retries: 0 },
    automaticDeserialization: false,
    enableTelemetry: false,
    readYourWrites: false,
    // Its pipelining sends reads and writes apart, so a read could overtake the write before it; ours keeps their order.
    enableAutoPipelining: false,
    signal: () => AbortSignal.any([closed.signal, AbortSignal.timeout(requestTimeoutMs)]),
  })
  let pending = 0
  let awaySince: number | undefined
  let probedAt = 0

  async function ask(request: SdkRequest): Promise<unknown> {
    if (closed.signal.aborted) throw new RedisAwayError('the connection is closed', false)
    if (pending >= pendingMax) throw new RedisAwayError('too many commands wait', false)
    if (awaySince !== undefined) {
      if (performance.now() - probedAt < probeEveryMs) throw new RedisAwayError('no answer', false)
      probedAt = performance.now()
    }
    pending++
    try {
      const answer = await transport.request(request)
      answers()
      return answer
    } catch (error) {
      const told = plainError(error)
      if (told instanceof RedisReplyError) answers()
      else if (awaySince === undefined && !closed.signal.aborted) {
        awaySince = probedAt = performance.now()
        log.warn({ connection: 'rest', reason: told.message }, 'Redis is away')
      }
      throw told
    } finally {
      pending--
    }
  }

  function answers(): void {
    if (awaySince === undefined) return
    awaySince = undefined
    log.warn({ connection: 'rest' }, 'Redis answers again')
  }

  async function several(
    commands: readonly RedisCommand[],
    path: string[],
    headers?: Record<string, string>,
  ): Promise<Single[]> {
    const answers = await ask({ path, body: commands, ...(headers ? { headers } : {}) })
    if (!Array.isArray(answers) || answers.length !== commands.length) {
      throw new RedisAwayError('its answer has another length than the question', true)
    }
    return (answers as Single[]).map(({ result, error }) =>
      error === undefined || error === null ? { result } : { error: withoutArguments(error) },
    )
  }

  const batch = batching(
    (command) => ask({ body: command }) as Promise<Single>,
    (commands) => several(commands, ['pipeline']),
  )

  async function answer({ path, body, headers, onMessage, signal }: SdkRequest): Promise<unknown> {
    switch (path?.[0]) {
      case undefined:
        return batch(redisCommand(body))
      case 'pipeline':
      case 'multi-exec':
        return several(redisCommands(body), path, headers)
      case 'subscribe':
      case 'psubscribe':
        await openEventStream({ url, token: token ?? '', path, signal, onLine: (line) => onMessage?.(line) })
        return { result: 1 }
      default:
        throw new TypeError('a request of a kind that is not known')
    }
  }

  const endings = new Set<() => void>()
  return {
    client: sdkClient({
      request: <T>(request: SdkRequest) => answer(request) as Promise<{ result?: T; error?: string }>,
    }),
    subscribe(channel, on) {
      const publish = (text: string) => batch(['PUBLISH', channel, text])
      const end = openRestSubscription({ url, token, channel, on, publish, log })
      const endOnce = () => {
        endings.delete(endOnce)
        end()
      }
      endings.add(endOnce)
      return endOnce
    },
    async close() {
      for (const end of endings) end()
      closed.abort()
    },
  }
}

type Single = { result?: unknown; error?: string }

/** One request for all commands of one turn, in their order. An error reply is an answer like any other. */
function batching(
  askOne: (command: RedisCommand) => Promise<Single>,
  askSeveral: (commands: readonly RedisCommand[]) => Promise<Single[]>,
): (command: RedisCommand) => Promise<Single> {
  interface Item {
    readonly command: RedisCommand
    resolve(answer: Single): void
    reject(error: unknown): void
  }
  let queue: Item[] = []

  async function send(items: readonly Item[]): Promise<void> {
    const [first, another] = items
    if (!first) return
    try {
      const answers = another ? await askSeveral(items.map(({ command }) => command)) : [await askOne(first.command)]
      items.forEach((item, i) => {
        item.resolve(answers[i] ?? {})
      })
    } catch (error) {
      if (!another && error instanceof RedisReplyError) first.resolve({ error: error.message })
      else for (const item of items) item.reject(error)
    }
  }

  function flush(): void {
    let items: Item[] = []
    let characters = 0
    for (const item of queue) {
      const length = item.command.reduce((sum, part) => sum + part.length, 0)
      if (items.length > 0 && (items.length >= batchMax || characters + length > batchCharactersMax)) {
        void send(items)
        items = []
        characters = 0
      }
      items.push(item)
      characters += length
    }
    queue = []
    void send(items)
  }

  return (command) =>
    new Promise((resolve, reject) => {
      if (queue.push({ command, resolve, reject }) === 1) queueMicrotask(flush)
    })
}

/** What the SDK throws quotes the whole command, or the body of the answer. */
function plainError(error: unknown): RedisAwayError | RedisReplyError {
  if (error instanceof RedisAwayError || error instanceof RedisReplyError) return error
  if (!(error instanceof Error)) return new RedisAwayError('the request failed', true)
  if (error.name === 'UpstashError') {
    const [reply = ''] = error.message.split(', command was: ', 1)
    // Redis's own errors begin with a code; the rest is the service's.
    if (/^[A-Z][A-Z0-9]{2,} /.test(reply)) return new RedisReplyError(reply)
    if (/unauthori[sz]ed|forbidden|token/i.test(reply)) return new RedisAwayError('its token is refused', false)
    return new RedisAwayError('the service answers with an error', true)
  }
  if (error.name === 'UpstashJSONParseError') return new RedisAwayError('its answer is not JSON', true)
  if (error.name === 'TimeoutError') return new RedisAwayError('no answer', true)
  const code = (error.cause as { code?: unknown } | undefined)?.code
  return new RedisAwayError(typeof code === 'string' ? code : 'the request failed', true)
}
