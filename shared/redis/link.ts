/** One multiplexed connection for commands: in the order in which they were given, answered or rejected within two seconds,
 *  never sent twice. */
import type { Outcome, Reply } from './commander.ts'
import { RedisAwayError, RedisReplyError, reasonOf } from './errors.ts'
import { errorReply, type NodeClient } from './node-client.ts'
import { openSession, type SessionOptions } from './session.ts'

/** Longest that a command waits for its answer; then the connection counts as dead. */
export const commandTimeoutMs = 2_000
/** An idle connection is tried so often, so that a dead one is found before somebody needs it. */
const idlePingMs = 1_000
const watchMs = 250
/** Commands that wait for answers at once; more are refused. */
const pendingMax = 100_000

export interface Link {
  send(command: readonly string[]): Promise<Reply>
  /** These commands directly after one another, nothing between; an error reply is an outcome, losing Redis rejects. */
  sendTogether(commands: readonly (readonly string[])[]): Promise<Outcome[]>
  /** Gives up the connection that is up, if any, and makes a new one. */
  reconnect(reason: string): void
  close(): void
}

export function openLink(options: Omit<SessionOptions, 'onUp' | 'onDown'>): Link {
  /** When each unanswered command was sent; answers come in order, so the first is the oldest. */
  let sentAt: number[] = []
  let answered = 0
  let waiting = 0
  let life = 0
  let current: NodeClient | undefined
  let lastAnswerMs = 0
  let watch: NodeJS.Timeout | undefined
  let lastWatchMs = 0

  const session = openSession({
    ...options,
    onUp(client) {
      life++
      sentAt = []
      answered = 0
      current = client
      lastAnswerMs = lastWatchMs = performance.now()
      watch = setInterval(check, watchMs).unref()
    },
    onDown() {
      current = undefined
      clearInterval(watch)
    },
  })

  function check(): void {
    const now = performance.now()
    // This process itself stood still: the answers may lie in the socket, so they are read first.
    const stoodStill = now - lastWatchMs > watchMs * 3
    lastWatchMs = now
    if (!current || stoodStill) return
    const oldest = sentAt[answered]
    if (oldest !== undefined && now - oldest > commandTimeoutMs) session.drop(current, 'no answer')
    else if (oldest === undefined && now - lastAnswerMs > idlePingMs) give(current, ['PING']).catch(ignored)
  }

  async function give(client: NodeClient, command: readonly string[]): Promise<Reply> {
    const mine = life
    sentAt.push(performance.now())
    try {
      return (await client.send(command)) as Reply
    } catch (error) {
      const reply = errorReply(error)
      if (reply !== undefined) throw new RedisReplyError(reply)
      if (!client.isReady) session.drop(client, reasonOf(error))
      throw new RedisAwayError(reasonOf(error), true)
    } finally {
      if (mine === life) {
        answered++
        lastAnswerMs = performance.now()
        if (answered === sentAt.length) {
          sentAt = []
          answered = 0
        } else if (answered > 4096) {
          sentAt = sentAt.slice(answered)
          answered = 0
        }
      }
    }
  }

  /** Waits for a connection where there is none, as long as one may come soon. */
  async function whenReady<T>(run: (client: NodeClient) => Promise<T>): Promise<T> {
    if (waiting + sentAt.length - answered >= pendingMax) throw new RedisAwayError('too many commands wait', false)
    const client = session.ready()
    if (!(client instanceof Promise)) return run(client)
    waiting++
    try {
      return await run(await within(client, commandTimeoutMs))
    } finally {
      waiting--
    }
  }

  return {
    send: (command) => whenReady((client) => give(client, command)),
    sendTogether: (commands) =>
      whenReady(async (client) => {
        const settled = await Promise.allSettled(commands.map((command) => give(client, command)))
        return settled.map((result): Outcome => {
          if (result.status === 'fulfilled') return { result: result.value }
          if (result.reason instanceof RedisReplyError) return { error: result.reason.message }
          throw result.reason
        })
      }),
    reconnect(reason) {
      if (current) session.drop(current, reason)
    },
    close() {
      clearInterval(watch)
      session.close()
    },
  }
}

/** An attempt to connect may outlast a command's patience: Sentinel is asked first, say. */
async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new RedisAwayError('no connection yet', false)), ms)
  })
  try {
    return await Promise.race([promise, tooLate])
  } finally {
    clearTimeout(timer)
  }
}

/** Its failure has dropped the connection, which is all there is to do. */
function ignored(): void {}
