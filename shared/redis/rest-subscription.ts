/** Subscriptions over REST: server-sent events that end without a word when a server, a proxy or a network drops them. So
 *  they have a heartbeat, which travels the same way as the messages, and are made anew. */
import type { SubscriptionHandlers } from './commander.ts'
import { RedisAwayError } from './errors.ts'
import { heartbeat, isHeartbeat } from './heartbeat.ts'
import { deliver } from './listener.ts'

/** Silence after which somebody sends a heartbeat: one for all that listen to the channel. */
const quietMs = 2_000
/** Silence after which the stream counts as dead. */
const deadMs = 4_000
const openTimeoutMs = 2_000
const firstRetryMs = 20
const longestRetryMs = 500
/** No message is longer; a stream that sends such a line is broken. */
const lineCharactersMax = 16 * 1024 * 1024

/** Resolves when the server has answered; `onLine` gets the text of each `data:` line. `ended` resolves when it is over,
 *  for whatever reason. Rejects with RedisAwayError. */
export async function openEventStream({
  url,
  token,
  path,
  signal,
  onLine,
}: {
  readonly url: string
  readonly token: string
  readonly path: readonly string[]
  readonly signal: AbortSignal | undefined
  readonly onLine: (line: string) => void
}): Promise<{ readonly ended: Promise<void> }> {
  const opening = new AbortController()
  const timer = setTimeout(() => opening.abort(), openTimeoutMs)
  let response: Response
  try {
    response = await fetch([url, ...path.map(encodeURIComponent)].join('/'), {
      method: 'POST',
      headers: {
        authorization: `Bearer ${token}`,
        accept: 'text/event-stream',
        'content-type': 'application/json',
        'cache-control': 'no-cache',
      },
      body: '[]',
      // Followed, a redirection would carry the token elsewhere. (Workers know no `error` here.)
      redirect: 'manual',
      signal: signal ? AbortSignal.any([signal, opening.signal]) : opening.signal,
    })
  } catch {
    throw new RedisAwayError('the stream of messages does not open', true)
  } finally {
    clearTimeout(timer)
  }
  if (!response.ok || !response.body) {
    await response.body?.cancel().catch(() => undefined)
    throw new RedisAwayError(`the stream of messages is refused with ${response.status}`, false)
  }
  return { ended: readLines(response.body, onLine) }
}

async function readLines(body: ReadableStream<Uint8Array>, onLine: (line: string) => void): Promise<void> {
  const decoder = new TextDecoder()
  const reader = body.getReader()
  let text = ''
  try {
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      text += decoder.decode(value, { stream: true })
      const lines = text.split('\n')
      text = lines.pop() ?? ''
      if (text.length > lineCharactersMax) return
      for (const line of lines) if (line.startsWith('data: ')) onLine(line.slice(6).replace(/\r$/, ''))
    }
  } catch {
    // Aborted or broken off: over, either way.
  } finally {
    await reader.cancel().catch(() => undefined)
  }
}

/** Keeps one channel subscribed; returns what ends it. */
export function openRestSubscription({
  url,
  token,
  channel,
  on,
  publish,
  log,
}: {
  readonly url: string
  readonly token: string
  readonly channel: string
  readonly on: SubscriptionHandlers
  readonly publish: (text: string) => Promise<unknown>
  readonly log: { warn(fields: Record<string, unknown>, message: string): void }
}): () => void {
  const ending = new AbortController()
  let isUp = false
  let warned = false

  async function once(): Promise<void> {
    const life = new AbortController()
    const signal = AbortSignal.any([ending.signal, life.signal])
    let heardAt = performance.now()
    let checkedAt = heardAt
    const timer = setInterval(() => {
      const now = performance.now()
      // This process itself stood still: what came meanwhile is read first.
      const stoodStill = now - checkedAt > quietMs
      checkedAt = now
      if (stoodStill) return
      if (now - heardAt > deadMs) life.abort()
      // Where it can't be sent, nothing is heard either.
      else if (now - heardAt > quietMs) publish(heartbeat).catch(() => undefined)
    }, quietMs / 4)
    const taken = `subscribe,${channel},`
    const message = `message,${channel},`
    const onLine = (line: string) => {
      heardAt = performance.now()
      if (ending.signal.aborted) return
      if (line.startsWith(message)) {
        const text = line.slice(message.length)
        if (!isHeartbeat(text)) deliver(() => on.message(text))
      } else if (line.startsWith(taken) && !isUp) {
        isUp = true
        if (warned) log.warn({ connection: 'rest subscription' }, 'Redis answers again')
        warned = false
        deliver(() => on.up())
      }
    }
    try {
      const { ended } = await openEventStream({ url, token, path: ['subscribe', channel], signal, onLine })
      await ended
    } finally {
      clearInterval(timer)
      life.abort()
    }
  }

  async function keep(): Promise<void> {
    let retryMs = firstRetryMs
    while (!ending.signal.aborted) {
      let reason = 'the stream of messages ended'
      try {
        await once()
      } catch (error) {
        reason = error instanceof RedisAwayError ? error.message : 'the stream of messages failed'
      }
      if (ending.signal.aborted) return
      if (!warned) log.warn({ connection: 'rest subscription', reason }, 'Redis is away')
      warned = true
      if (isUp) {
        isUp = false
        retryMs = firstRetryMs
        deliver(() => on.down())
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs * (0.5 + Math.random() / 2)))
      retryMs = Math.min(retryMs * 2, longestRetryMs)
    }
  }

  void keep()
  return () => ending.abort()
}
