/** The REST transport needs nothing of Node: here it runs in workerd, against the gateway. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { build } from 'esbuild'
import * as v from 'valibot'
import { afterAll, describe, expect, test } from 'vitest'
import { silentLogger } from '../../shared/logging.ts'
import { openTransport } from '../../shared/redis/connection.ts'
import { redisInstalled, startRedis } from '../../test/support/redis.ts'
import { eventually } from '../../test/support/redis-contract.ts'
import { freePort } from '../dev/free-port.ts'
import { createGateway } from './gateway.ts'

const root = path.resolve(import.meta.dirname, '../..')
const token = 'a-token-for-the-worker'

/** Says what a command of each kind and a message come to. */
const worker = (gatewayUrl: string) => `
import { restRedis } from ${JSON.stringify(path.join(root, 'shared/redis/rest.ts'))}
export default {
  async fetch() {
    const redis = restRedis({ url: '${gatewayUrl}', token: '${token}', log: { warn() {} } })
    const replies = [
      await redis.client.set('worker', 'ü123'),
      ...(await Promise.all([redis.client.get('worker'), redis.client.get('none')])),
      await redis.client.multi().incr('n').zadd('z', { score: 1, member: 'm' }).exec(),
    ]
    const message = await new Promise((resolve, reject) => {
      setTimeout(() => reject(new Error('no message came')), 10_000)
      redis.subscribe('worker:messages', {
        up: () => redis.client.publish('worker:messages', 'hello'),
        down() {},
        message: resolve,
      })
    })
    await redis.close()
    return Response.json({ replies, message })
  },
}
`

const closings: (() => unknown)[] = []
afterAll(async () => {
  for (const close of closings.reverse()) await close()
})

describe.runIf(redisInstalled)('in workerd', () => {
  test('commands, transactions and messages over REST', async () => {
    const redis = await startRedis()
    closings.push(redis.stop)
    const transport = openTransport({ url: redis.url, log: silentLogger })
    const gateway = createGateway({ transport, tokens: [token], log: silentLogger })
    closings.push(transport.close, gateway.close)
    await new Promise<void>((resolve) => gateway.server.listen(0, '127.0.0.1', resolve))
    const { port: gatewayPort } = gateway.server.address() as AddressInfo

    const folder = await mkdtemp(path.join(tmpdir(), 'ganglion-workerd-'))
    closings.push(() => rm(folder, { recursive: true }))
    await build({
      stdin: { contents: worker(`http://127.0.0.1:${gatewayPort}`), resolveDir: root },
      outfile: path.join(folder, 'worker.js'),
      bundle: true,
      // Fails for whatever Node alone has.
      platform: 'browser',
      format: 'esm',
    })
    const port = await freePort()
    await writeFile(path.join(folder, 'config.capnp'), configuration(port))
    // Itself, and not the script in `.bin`, which waits for it and leaves it behind when it is killed.
    const program = v.parse(v.object({ default: v.string() }), createRequire(import.meta.url)('workerd')).default
    const workerd: ChildProcess = spawn(program, ['serve', path.join(folder, 'config.capnp')], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const ended = new Promise((resolve) => workerd.once('exit', resolve))
    closings.push(() => {
      workerd.kill('SIGTERM')
      return ended
    })
    let answer: Response | undefined
    await eventually(async () => {
      answer = await fetch(`http://127.0.0.1:${port}/`)
    })
    expect(await answer?.json()).toEqual({ replies: ['OK', 'ü123', null, [1, 1]], message: 'hello' })
  })
})

function configuration(port: number): string {
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "redis", worker = .redis), (name = "internet", network = (allow = ["public", "private"]))],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "redis")],
);
const redis :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "2025-09-01",
);
`
}
