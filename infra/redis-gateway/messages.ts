/** Messages of a channel or a pattern as server-sent events, one line each. */
import type { ServerResponse } from 'node:http'
import type { PubSub } from '../../shared/redis/commander.ts'
import { RedisAwayError } from '../../shared/redis/errors.ts'

/** So that proxies between don't take the stream for dead. */
const commentEveryMs = 15_000
const openTimeoutMs = 1_500
/** What a reader that is too slow may leave lying here. */
const backlogBytesMax = 8 * 1024 * 1024

/** Resolves, with what ends it, once the subscription has taken hold and the head of the answer is sent; ends the stream when
 *  the subscription is lost, as messages may be missing then. Rejects with RedisAwayError. */
export function streamMessages({
  pubSub,
  kind,
  name,
  response,
}: {
  readonly pubSub: PubSub
  readonly kind: 'subscribe' | 'psubscribe'
  readonly name: string
  readonly response: ServerResponse
}): Promise<() => void> {
  return new Promise((resolve, reject) => {
    let comments: NodeJS.Timeout | undefined
    let opened = false
    const timer = setTimeout(() => {
      unsubscribe()
      reject(new RedisAwayError('the subscription does not take hold', false))
    }, openTimeoutMs)

    const end = () => {
      clearTimeout(timer)
      clearInterval(comments)
      unsubscribe()
      response.end()
    }
    const write = (line: string) => {
      if (response.destroyed) return
      // A line break ends a message; in JSON it is only white space.
      response.write(`data: ${line.replaceAll(/[\r\n]+/g, ' ')}\n\n`)
      if (response.writableLength > backlogBytesMax) response.destroy()
    }
    const on = {
      up() {
        if (opened) return
        opened = true
        clearTimeout(timer)
        response.writeHead(200, {
          'content-type': 'text/event-stream',
          'cache-control': 'no-store, no-transform',
          'x-accel-buffering': 'no',
        })
        write(`${kind},${name},1`)
        comments = setInterval(() => response.write(': ping\n\n'), commentEveryMs)
        resolve(end)
      },
      down: end,
    }
    const unsubscribe =
      kind === 'subscribe'
        ? pubSub.subscribe(name, { ...on, message: (text) => write(`message,${name},${text}`) })
        : pubSub.psubscribe(name, {
            ...on,
            message: (text, channel) => write(`pmessage,${name},${channel},${text}`),
          })
    response.once('close', () => {
      end()
      if (!opened) reject(new RedisAwayError('the caller left', false))
    })
  })
}
