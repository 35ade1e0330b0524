import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { createLogger } from '../../shared/logging.ts'
import { openTransport } from '../../shared/redis/connection.ts'
import { parseRedisUrl } from '../../shared/redis/url.ts'
import { createGateway } from '../redis-gateway/gateway.ts'
import { type Command, UsageError } from './command.ts'

export const redisGateway: Command = {
  help: `Usage: ganglion redis-gateway [--listen 127.0.0.1:8079] [--redis-url-path FILE] [--token-path FILE]

Offers a Redis over HTTP, in the form of Upstash's REST API: commands, pipelines, transactions, and messages as server-sent
events. For handlers that speak only HTTP; their configuration then has redis.url: https://… and redis.token. It speaks
plain HTTP itself: put it behind what ends TLS.

      --listen HOST:PORT      where to listen; port 0 for any free one   (or REDIS_GATEWAY_LISTEN)
      --redis-url-path FILE   holds the URL of the Redis behind it, as in redis.url: redis://, rediss://,
                              redis+sentinel://, redis+cluster://        (or REDIS_GATEWAY_REDIS_URL, the URL itself)
      --token-path FILE       holds the token, one a line: two while it is being changed
                                                                         (or REDIS_GATEWAY_TOKEN, the token itself)
      --tls-ca-path FILE      PEM certificates that vouch for a rediss:// server
      --max-body-bytes N      largest request, 16777216 by default`,
  async run(args) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        listen: { type: 'string' },
        'redis-url-path': { type: 'string' },
        'token-path': { type: 'string' },
        'tls-ca-path': { type: 'string' },
        'max-body-bytes': { type: 'string' },
      },
    })
    const [url = ''] = linesOf(values['redis-url-path'], process.env.REDIS_GATEWAY_REDIS_URL)
    const tokens = linesOf(values['token-path'], process.env.REDIS_GATEWAY_TOKEN)
    if (tokens.length === 0) throw new UsageError('a token is missing: --token-path or REDIS_GATEWAY_TOKEN')
    if (tokens.some((token) => token.length < 16 || /\s/.test(token))) {
      throw new UsageError('a token has at least 16 characters and no white space')
    }
    if (url === '') throw new UsageError('a Redis is missing: --redis-url-path or REDIS_GATEWAY_REDIS_URL')
    if (parseRedisUrl(url).kind === 'rest') throw new UsageError('behind the gateway is a Redis over TCP')
    const maxBody = values['max-body-bytes'] ?? '16777216'
    if (!/^[1-9]\d{0,9}$/.test(maxBody)) throw new UsageError('--max-body-bytes is a number of bytes')
    const { host, port } = addressOf(values.listen ?? process.env.REDIS_GATEWAY_LISTEN ?? '127.0.0.1:8079')

    // Before it says that it listens: who waits for that may end it at once.
    const stopped = new Promise<void>((resolve) => {
      for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve())
    })
    const log = createLogger({ level: 'info', format: 'json' })
    const transport = openTransport({ url, caPath: values['tls-ca-path'], log })
    const gateway = createGateway({ transport, tokens, log, bodyBytesMax: Number(maxBody) })
    await new Promise<void>((resolve, reject) => {
      gateway.server.once('error', reject)
      gateway.server.listen({ host, port }, resolve)
    })
    log.info({ address: gateway.server.address() }, 'the Redis gateway listens')
    log.flush()
    await stopped
    await gateway.close()
    await transport.close()
    log.flush()
    return 0
  },
}

function linesOf(file: string | undefined, variable: string | undefined): string[] {
  const text = file === undefined ? (variable ?? '') : readFileSync(file, 'utf8')
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
}

function addressOf(listen: string): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(listen)
  if (!match || Number(match[3]) > 65535) throw new UsageError('--listen is HOST:PORT')
  return { host: match[1] ?? match[2] ?? '', port: Number(match[3]) }
}
