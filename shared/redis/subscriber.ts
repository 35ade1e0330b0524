/** All subscriptions of this process over one connection, which is tried each second and made anew when it is dead. */
import type { PubSub } from './commander.ts'
import { reasonOf } from './errors.ts'
import { deliver } from './listener.ts'
import type { MessageListener, NodeClient } from './node-client.ts'
import { openSession, type SessionOptions } from './session.ts'

const pingEveryMs = 1_000
const pingTimeoutMs = 2_000

interface Entry {
  readonly name: string
  readonly pattern: boolean
  readonly on: { message(text: string, channel: string): void; up(): void; down(): void }
  isUp: boolean
  ended: boolean
}

export function openSubscriber(options: Omit<SessionOptions, 'onUp' | 'onDown'>): PubSub & {
  /** Gives up the connection that is up, if any, and makes a new one. */
  reconnect(reason: string): void
} {
  const entries = new Set<Entry>()
  let current: NodeClient | undefined
  let heart: NodeJS.Timeout | undefined

  const session = openSession({
    ...options,
    onUp(client) {
      current = client
      for (const entry of entries) void take(client, entry)
      let askedAt: number | undefined
      let beatAt = performance.now()
      heart = setInterval(() => {
        const now = performance.now()
        // This process itself stood still: the answer may lie in the socket.
        const stoodStill = now - beatAt > pingEveryMs * 2
        beatAt = now
        if (askedAt !== undefined) {
          if (now - askedAt > pingTimeoutMs && !stoodStill) session.drop(client, 'no answer')
          return
        }
        askedAt = now
        client.send(['PING']).then(
          () => {
            askedAt = undefined
          },
          (error: unknown) => session.drop(client, reasonOf(error)),
        )
      }, pingEveryMs).unref()
    },
    onDown() {
      current = undefined
      clearInterval(heart)
      for (const entry of entries) {
        if (!entry.isUp) continue
        entry.isUp = false
        deliver(() => entry.on.down())
      }
    },
  })

  async function take(client: NodeClient, entry: Entry): Promise<void> {
    const listener: MessageListener = (message, channel) => {
      if (!entry.ended) deliver(() => entry.on.message(message, channel))
    }
    try {
      await client.subscribe(entry.name, listener, entry.pattern)
    } catch (error) {
      session.drop(client, reasonOf(error))
      return
    }
    if (entry.ended) await release(client, entry, listener)
    else if (current === client) {
      entry.isUp = true
      listeners.set(entry, listener)
      deliver(() => entry.on.up())
    }
  }

  const listeners = new WeakMap<Entry, MessageListener>()

  async function release(client: NodeClient, entry: Entry, listener: MessageListener) {
    try {
      await client.unsubscribe(entry.name, listener, entry.pattern)
    } catch (error) {
      session.drop(client, reasonOf(error))
    }
  }

  function add(entry: Entry): () => void {
    entries.add(entry)
    // The session keeps trying; an entry is taken up when it comes up.
    if (current) void take(current, entry)
    else Promise.resolve(session.ready()).catch(() => undefined)
    return () => {
      if (entry.ended) return
      entry.ended = true
      entries.delete(entry)
      const listener = listeners.get(entry)
      if (current && entry.isUp && listener) void release(current, entry, listener)
    }
  }

  return {
    subscribe: (channel, on) => add({ name: channel, pattern: false, on, isUp: false, ended: false }),
    psubscribe: (pattern, on) => add({ name: pattern, pattern: true, on, isUp: false, ended: false }),
    reconnect(reason) {
      if (current) session.drop(current, reason)
    },
    close() {
      clearInterval(heart)
      session.close()
    },
  }
}
