/** Commands over real sockets, carried out by what the test says. */
import { linkSync, mkdtempSync, rmSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { CommandRunner } from '../../functions/main/command-runner.ts'
import { NotRunError } from '../../functions/main/command-runner.ts'
import {
  bindCommandServer,
  type CommandServer,
  type CommandServerOptions,
} from '../../functions/main/command-server.ts'
import { systemClock } from '../../shared/clock.ts'
import type { EventId, RoomId, UserId } from '../../shared/matrix/ids.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'
import {
  type CommandConnection,
  CommandFaultError,
  connectCommands,
  type SentCommand,
} from '../../shared/replication/command-client.ts'
import { createInProcessReplication } from '../../shared/replication/in-process.ts'
import { requestContext } from '../../shared/request-context.ts'
import type { StreamPosition } from '../../shared/streams/define.ts'
import { type FixedDirectory, fixedDirectory } from '../support/fixed-directory.ts'

const secret = 'kMd2-secret'
const alice = '@alice:hs1' as UserId
const room_id = '!room:hs1' as RoomId
const event_id = '$event' as EventId
const message = { room_id, user_id: alice, type: 'm.room.message', content: { body: 'hello' } }
const quiet = { warn() {}, error() {} }

type Run = CommandRunner['run']
let run: Run
let undo: (() => unknown)[] = []
let folder: string

beforeEach(() => {
  run = async () => ({ event_id })
  folder = mkdtempSync(path.join(tmpdir(), 'ganglion-commands-'))
  undo = [() => rmSync(folder, { recursive: true })]
})
afterEach(async () => {
  for (const step of undo.reverse()) await step()
})

const replication = () => createInProcessReplication({}, systemClock)

async function serve(options: Partial<CommandServerOptions> = {}, opened = true): Promise<CommandServer> {
  const server = await bindCommandServer({
    listen: { port: 0, bind: '127.0.0.1' },
    secrets: [secret],
    queueMax: 100,
    bodyBytesMax: 1_000_000,
    clock: systemClock,
    log: quiet,
    ...options,
  })
  undo.push(() => server.stop(0))
  if (opened)
    server.open({ runner: { run: (...given) => run(...given), runHere: () => undefined }, replication: replication() })
  return server
}

interface Connected extends CommandConnection {
  readonly directory: FixedDirectory
  readonly sent: SentCommand[]
}

function client(url: string | undefined, options: { secret?: string; timeoutMs?: number } = {}): Connected {
  const directory = fixedDirectory(url)
  const sent: SentCommand[] = []
  const connection = connectCommands({
    directory,
    secret,
    clock: systemClock,
    log: quiet,
    timeoutMs: 5_000,
    observe: (command) => sent.push(command),
    ...options,
  })
  undo.push(() => connection.close())
  return Object.assign(connection, { directory, sent })
}

/** A request as no client of ours makes it. */
function raw(
  server: CommandServer,
  options: { path?: string; method?: string; headers?: Record<string, string>; body?: string | Buffer } = {},
): Promise<{ status: number; reason: unknown; body: string; headers: Record<string, unknown> }> {
  return new Promise((resolve, reject) => {
    const sending = httpRequest(
      `${server.url}${options.path ?? '/commands/sendEvent'}`,
      {
        method: options.method ?? 'POST',
        headers: { authorization: `Bearer ${secret}`, 'x-ganglion-key': 'a-key-of-mine', ...options.headers },
      },
      (answer) => {
        let body = ''
        answer.setEncoding('utf8')
        answer.on('data', (chunk: string) => {
          body += chunk
        })
        answer.on('end', () =>
          resolve({
            status: answer.statusCode ?? 0,
            reason: answer.headers['x-ganglion-reason'],
            body,
            headers: answer.headers,
          }),
        )
      },
    )
    sending.on('error', reject)
    sending.end(options.body ?? JSON.stringify(message))
  })
}

describe('a command and its answer', () => {
  test('over TCP, and over a Unix socket', async () => {
    const seen: unknown[] = []
    run = async (name, request, call) => {
      seen.push([name, request, call.isRetry])
      return { event_id }
    }
    const tcp = await serve()
    const unix = await serve({ listen: { path: path.join(folder, 'main.sock') } })
    expect(tcp.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/)
    expect(unix.url).toBe(`unix:${folder}/main.sock`)
    for (const { url } of [tcp, unix]) expect(await client(url).main.sendEvent(message)).toEqual({ event_id })
    expect(seen).toEqual([
      ['sendEvent', message, false],
      ['sendEvent', message, false],
    ])
  })

  test('content comes over as it is, whatever its keys and characters', async () => {
    const content = JSON.parse(
      '{"__proto__":{"a":1},"constructor":1,"\\n":2,"\\\\":3,"text":"\\u0000 ü 🐈 \\"","big":1e300,"deep":[[[{}]]]}',
    ) as typeof message.content
    let got = ''
    run = async (_name, request) => {
      got = JSON.stringify((request as typeof message).content)
      return { event_id }
    }
    const { main } = client((await serve()).url)
    await main.sendEvent({ ...message, content })
    expect(got).toBe(JSON.stringify(content))
    const large = { body: '🐈'.repeat(100_000) }
    await main.sendEvent({ ...message, content: large })
    expect(JSON.parse(got)).toEqual(large)
  })

  test('an error comes over with code, words, status and further keys', async () => {
    const thrown = new MatrixError('M_LIMIT_EXCEEDED', 'Zu viel 🐈', {
      status: 418,
      extra: { retry_after_ms: 1234, flows: [{ stages: ['a'] }] },
    })
    run = async () => {
      throw thrown
    }
    const { main, sent } = client((await serve()).url)
    const error = await main.sendEvent(message).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(MatrixError)
    expect(error).toMatchObject({
      errcode: thrown.errcode,
      message: thrown.message,
      status: thrown.status,
      extra: thrown.extra,
    })
    expect(sent).toMatchObject([{ name: 'sendEvent', attempts: 1, outcome: 'refused' }])
  })

  test('what failed unexpectedly is a fault of the server, and tells nothing of itself', async () => {
    run = async () => {
      throw new Error('with a password in it')
    }
    const error = await client((await serve()).url)
      .main.sendEvent(message)
      .catch((e: unknown) => e)
    expect(error).toBeInstanceOf(CommandFaultError)
    expect(String(error)).not.toContain('password')
  })

  test('the id of the request goes along', async () => {
    let seen: string | undefined
    run = async () => {
      seen = requestContext.getStore()?.requestId
      return { event_id }
    }
    const { main } = client((await serve()).url)
    await requestContext.run({ requestId: 'r-1' }, () => main.sendEvent(message))
    expect(seen).toBe('r-1')
  })

  test('one connection carries all, and those at once do not wait for each other', async () => {
    const connection = client((await serve()).url)
    for (let i = 0; i < 20; i++) await connection.main.sendEvent(message)
    expect(connection.connections).toBe(1)
    const release = Promise.withResolvers<void>()
    run = async (_name, request) => {
      if ((request as { type: string }).type === 'slow') await release.promise
      return { event_id }
    }
    const slow = connection.main.sendEvent({ ...message, type: 'slow' })
    await Promise.all(Array.from({ length: 30 }, () => connection.main.sendEvent(message)))
    release.resolve()
    await slow
    expect(connection.connections).toBe(1)
    expect(connection.inFlight).toBe(0)
  })
})

describe('who may send', () => {
  test.each([
    { what: 'no secret', authorization: '' },
    { what: 'another secret', authorization: 'Bearer kMd2-secreu' },
    { what: 'a longer one', authorization: `Bearer ${secret}x` },
    { what: 'the bare secret', authorization: secret },
    { what: 'an enormous one', authorization: `Bearer ${'x'.repeat(10_000)}` },
  ])('$what: 401, and nothing is run', async ({ authorization }) => {
    let runs = 0
    run = async () => ({ event_id: `${event_id}${runs++}` })
    const server = await serve()
    expect(await raw(server, { headers: { authorization } })).toMatchObject({ status: 401, reason: 'secret' })
    expect(runs).toBe(0)
    await expect(client(server.url, { secret: 'other' }).main.sendEvent(message)).rejects.toBeInstanceOf(
      CommandFaultError,
    )
  })

  test('while the secret is changed both are taken, and only these', async () => {
    const server = await serve({ secrets: ['new', 'old'] })
    for (const known of ['new', 'old']) {
      expect(await client(server.url, { secret: known }).main.sendEvent(message)).toEqual({ event_id })
    }
    await expect(client(server.url, { secret }).main.sendEvent(message)).rejects.toBeInstanceOf(CommandFaultError)
  })

  test('a secret that no header can hold is refused before anything is sent', () => {
    for (const bad of ['', 'two words', 'line\r\nbreak', 'ü']) {
      expect(() => client('http://127.0.0.1:1', { secret: bad })).toThrow('commands.secret')
    }
  })
})

describe('what is not a command', () => {
  test.each([
    { what: 'no JSON', body: '{"room_id":' },
    { what: 'nothing', body: '' },
    { what: 'a list', body: '[]' },
    { what: 'missing keys', body: '{}' },
    { what: 'a wrong type', body: JSON.stringify({ ...message, content: 'text' }) },
    { what: 'an id that is none', body: JSON.stringify({ ...message, room_id: 'x'.repeat(300) }) },
    { what: 'a depth that no stack holds', body: `{"content":${'['.repeat(200_000)}` },
    {
      what: 'a depth that no stack holds, with escaped keys',
      body: `${'{"\\n":'.repeat(50_000)}1${'}'.repeat(50_000)}`,
    },
    { what: 'bytes that are no text', body: Buffer.from([0xff, 0xfe, 0x00]) },
  ])('$what', async ({ body }) => {
    let runs = 0
    run = async () => ({ event_id: `${event_id}${runs++}` })
    const server = await serve()
    expect(await raw(server, { body })).toMatchObject({ status: 400, reason: 'request' })
    expect(runs).toBe(0)
    expect(server.load).toEqual({ commands: 0, bytes: 0 })
  })

  test.each([
    ['x-ganglion-key', ''],
    ['x-ganglion-key', 'short'],
    ['x-ganglion-key', 'with spaces in it'],
    ['x-ganglion-attempt', '0'],
    ['x-ganglion-attempt', '-1'],
    ['x-ganglion-deadline', 'soon'],
    ['x-ganglion-after', 'events'],
    ['x-ganglion-after', 'events:-3'],
    ['x-ganglion-after', 'events:1e99'],
  ])('%s: %j', async (name, value) => {
    expect(await raw(await serve(), { headers: { [name]: value } })).toMatchObject({ status: 400, reason: 'request' })
  })

  test.each([
    '/commands/',
    '/commands/nothing',
    '/commands/constructor',
    '/commands/__proto__',
    '/',
    '/_matrix/client/versions',
  ])('path %s', async (where) => {
    expect(await raw(await serve(), { path: where })).toMatchObject({ status: 404, reason: 'unknown_command' })
  })

  test('another method', async () => {
    expect(await raw(await serve(), { method: 'PUT' })).toMatchObject({ status: 404 })
  })

  test('a body beyond the bound: refused by its length, and where it gives none, when it gets there', async () => {
    const server = await serve({ bodyBytesMax: 1_000 })
    expect(await raw(server, { body: 'x'.repeat(1_001) })).toMatchObject({ status: 413, reason: 'too_large' })
    const chunked = { 'transfer-encoding': 'chunked' }
    expect(await raw(server, { body: 'x'.repeat(2_000), headers: chunked })).toMatchObject({ status: 413 })
    await raw(server, { body: 'x'.repeat(30_000_000), headers: chunked }).then(
      (answer) => expect(answer.status).toBe(413),
      (error: Error) => expect(error.message).toMatch(/ECONNRESET|EPIPE|socket hang up/),
    )
    expect(await raw(server)).toMatchObject({ status: 200 })
    expect(server.load).toEqual({ commands: 0, bytes: 0 })
  })

  test('a sender that goes away in the middle holds nothing', async () => {
    const server = await serve()
    const { port } = new URL(server.url)
    const socket = connect(Number(port), '127.0.0.1')
    socket.write(
      `POST /commands/sendEvent HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${secret}\r\nContent-Length: 500\r\n\r\n{"a"`,
    )
    await new Promise((resolve) => setTimeout(resolve, 20))
    socket.destroy()
    expect(await raw(server)).toMatchObject({ status: 200 })
    expect(server.load).toEqual({ commands: 0, bytes: 0 })
  })
})

describe('what answers that is no main', () => {
  /** A process that opens sessions and answers each command with what the test says. */
  async function impostor(answer: (id: string) => string): Promise<string> {
    const other = createServer((_request, response) => response.end('{}'))
    other.on('upgrade', (_request, socket) => {
      socket.on('error', () => socket.destroy())
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ganglion-commands\r\n\r\n')
      socket.on('data', (chunk: Buffer) => {
        for (const [, id = ''] of chunk.toString().matchAll(/^(\d+) \w+ /gm)) socket.write(answer(id))
      })
      undo.push(() => socket.destroy())
    })
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    undo.push(() => new Promise((resolve) => other.close(resolve)))
    return `http://127.0.0.1:${(other.address() as AddressInfo).port}`
  }

  test.each([
    { what: 'text', body: 'hello' },
    { what: 'another shape', body: '{"event_id":1}' },
    { what: 'nothing', body: '' },
    { what: 'an error without a reason', body: '{}', status: 502 },
    { what: 'a refusal that is none', body: '{"errcode":1}', status: 400, reason: 'refused' },
    { what: 'an unknown reason', body: '{}', status: 500, reason: 'whatever' },
  ])('$what is a fault', async ({ body, status = 200, reason = '-' }) => {
    const url = await impostor((id) => `${id} ${status} ${reason} -\n${body}\n`)
    await expect(client(url).main.sendEvent(message)).rejects.toBeInstanceOf(CommandFaultError)
  })

  test('an answer in pieces, cut through characters, is put together', async () => {
    const text = JSON.stringify({ filter_id: 'ü🐈'.repeat(50_000) })
    const url = await impostor((id) => `${id} 200 - events:1\n${text}\n`)
    expect(await client(url).main.createFilter({ user_id: alice, filter: '{}' })).toEqual(JSON.parse(text))
  })

  test('an answer to nobody is passed over', async () => {
    const url = await impostor((id) => `77 200 - -\n{}\nping\n\n${id} 200 - -\n{"event_id":"$x"}\n`)
    expect(await client(url).main.sendEvent(message)).toEqual({ event_id: '$x' })
  })

  test.each(['garbage\n\n', '1 2\n{}\n', 'x'.repeat(17_000_000)])(
    'garbage in a session (%#): tried again until the time is over, then 503',
    async (garbage) => {
      const url = await impostor(() => garbage)
      const { main, sent } = client(url, { timeoutMs: 300 })
      await expect(main.sendEvent(message)).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE', status: 503 })
      expect(sent[0]?.attempts).toBeGreaterThan(0)
    },
  )

  test.each(['no HTTP at all\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}', 'x'.repeat(100_000)])(
    'no session to be had (%#): tried again until the time is over, then 503',
    async (garbage) => {
      const other = createTcpServer((socket) => {
        socket.on('error', () => socket.destroy())
        socket.once('data', () => socket.end(garbage))
      })
      await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
      undo.push(() => new Promise((resolve) => other.close(resolve)))
      const { main, sent } = client(`http://127.0.0.1:${(other.address() as AddressInfo).port}`, { timeoutMs: 200 })
      await expect(main.sendEvent(message)).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE', status: 503 })
      expect(sent[0]?.attempts).toBeGreaterThan(1)
    },
  )
})

describe('a session', () => {
  const upgrade = (authorization: string) =>
    `GET /commands HTTP/1.1\r\nHost: x\r\nAuthorization: ${authorization}\r\nConnection: Upgrade\r\nUpgrade: ganglion-commands\r\n\r\n`

  /** What a connection gets for these bytes, until it is closed or `until` is there. */
  function talk(server: CommandServer, text: string, until?: string): Promise<string> {
    return new Promise((resolve) => {
      const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
      let got = ''
      const end = () => {
        socket.destroy()
        resolve(got)
      }
      socket.on('data', (chunk: Buffer) => {
        got += chunk.toString()
        if (until !== undefined && got.includes(until)) end()
      })
      socket.on('error', end)
      socket.on('close', end)
      socket.write(text)
    })
  }
  const line = (id: number, name = 'sendEvent') => `${id} ${name} a-key-of-mine-${id} 1 5000 - - -`

  test('is opened by the secret alone', async () => {
    const server = await serve()
    for (const wrong of ['', 'Bearer', `Bearer ${secret}x`, secret]) {
      expect(await talk(server, upgrade(wrong))).toMatch(/^HTTP\/1\.1 401 .*x-ganglion-reason: secret/s)
    }
    expect(await talk(server, upgrade(`Bearer ${secret}`).replace('/commands', '/other'))).toMatch(/^HTTP\/1\.1 404/)
    const both = `${upgrade(`Bearer ${secret}`)}${line(1)}\n${JSON.stringify(message)}\n`
    expect(await talk(server, both, 'event_id')).toMatch(/^HTTP\/1\.1 101 .*\n1 200 - events:0,.*\n\{"event_id":/s)
  })

  test.each([
    { what: 'a body that is none', lines: `${line(1)}\n{\n`, answer: '1 400 request -' },
    { what: 'an unknown command', lines: `${line(1, 'nothing')}\n{}\n`, answer: '1 404 unknown_command -' },
    { what: 'an enormous body', lines: `${line(1)}\n${'x'.repeat(3_000_000)}\n`, answer: '1 413 too_large -' },
    {
      what: 'the one after an enormous body',
      lines: `${line(1)}\n${'x'.repeat(3_000_000)}\n${line(2)}\n{}\n`,
      answer: '2 400 request -',
    },
    { what: 'a ping', lines: 'ping\n\n', answer: 'ping' },
  ])('$what is answered, and the session goes on', async ({ lines, answer }) => {
    const server = await serve()
    const good = `${line(9)}\n${JSON.stringify(message)}\n`
    const got = await talk(server, upgrade(`Bearer ${secret}`) + lines + good, '\n9 200')
    expect(got).toContain(`\n${answer}`)
    expect(server.load).toEqual({ commands: 0, bytes: 0 })
  })

  test.each(['garbage\n{}\n', '\n\n', `${'x'.repeat(3_000_000)}`, '1 sendEvent short 1 1 - - -\n{}\n', '\0\xff\n\n'])(
    'what is no command at all ends it (%#)',
    async (garbage) => {
      const server = await serve()
      expect(await talk(server, upgrade(`Bearer ${secret}`) + garbage)).toMatch(/^HTTP\/1\.1 101 [^{]*$/)
      expect(await raw(server)).toMatchObject({ status: 200 })
    },
  )

  test('one whose other end is silent is given up, and its commands are sent on another', async () => {
    const silent = createServer()
    let opened = 0
    silent.on('upgrade', (_request, socket) => {
      opened++
      socket.on('error', () => socket.destroy())
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ganglion-commands\r\n\r\n')
      if (opened > 1) {
        socket.on('data', (chunk: Buffer) => {
          for (const [, id] of chunk.toString().matchAll(/^(\d+) sendEvent/gm)) {
            socket.write(`${id} 200 - -\n{"event_id":"$x"}\n`)
          }
        })
      }
      undo.push(() => socket.destroy())
    })
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
    undo.push(() => new Promise((resolve) => silent.close(resolve)))
    const { main } = client(`http://127.0.0.1:${(silent.address() as AddressInfo).port}`, { timeoutMs: 15_000 })
    expect(await main.sendEvent(message)).toEqual({ event_id: '$x' })
    expect(opened).toBe(2)
  })
})

describe('when main is not there, or not yet, or no more', () => {
  test('the command is sent again until somebody takes it', async () => {
    const calls: boolean[] = []
    run = async (_name, _request, call) => {
      calls.push(call.isRetry)
      return { event_id }
    }
    const server = await serve()
    const { main, directory, sent } = client('http://127.0.0.1:1')
    const answer = main.sendEvent(message)
    await expect.poll(() => directory.looks).toBeGreaterThan(1)
    directory.set({ all: { id: 'other', url: server.url, epoch: 2 } })
    expect(await answer).toEqual({ event_id })
    expect(calls).toEqual([true])
    expect(sent).toMatchObject([{ outcome: 'ok' }])
  })

  test('without any main, and without one that listens: 503 when the time is over', async () => {
    for (const url of [undefined, 'http://127.0.0.1:1', 'unix:/nowhere/at/all', 'ftp://x', '']) {
      const before = Date.now()
      await expect(client(url, { timeoutMs: 150 }).main.sendEvent(message)).rejects.toMatchObject({
        errcode: 'M_UNAVAILABLE',
        status: 503,
        extra: { retry_after_ms: 2_000 },
      })
      expect(Date.now() - before).toBeLessThan(1_500)
    }
  })

  test('a main that takes the command and says nothing: 503 when the time is over', async () => {
    run = () => new Promise(() => {})
    const { main } = client((await serve()).url, { timeoutMs: 150 })
    await expect(main.sendEvent(message)).rejects.toMatchObject({ errcode: 'M_UNAVAILABLE' })
  })

  test('a main that froze is left when its shard has another owner', async () => {
    run = () => new Promise(() => {})
    const frozen = await serve()
    const { main, directory } = client(frozen.url)
    const answer = main.sendEvent(message)
    await expect.poll(() => frozen.load.commands).toBe(1)
    run = async () => ({ event_id })
    directory.set({ all: { id: 'standby', url: (await serve()).url, epoch: 2 } })
    expect(await answer).toEqual({ event_id })
  })

  test('421: looks again, asks the new owner, or the same again when it is ready', async () => {
    let refusals = 3
    run = async () => {
      if (refusals-- > 0) throw new NotRunError('moved')
      return { event_id }
    }
    const server = await serve()
    expect(await raw(server)).toMatchObject({ status: 421, reason: 'moved' })
    const { main, directory, sent } = client(server.url)
    expect(await main.sendEvent(message)).toEqual({ event_id })
    expect(sent).toMatchObject([{ attempts: 3 }])
    expect(directory.looks).toBe(2)
  })

  test('before it opens it says so, and the command is run when it has', async () => {
    const server = await serve({}, false)
    expect(await raw(server)).toMatchObject({ status: 503, reason: 'starting', headers: { 'retry-after': '1' } })
    const { main } = client(server.url)
    const answer = main.sendEvent(message)
    server.open({ runner: { run: (...given) => run(...given), runHere: () => undefined }, replication: replication() })
    expect(await answer).toEqual({ event_id })
  })

  test('stopping, it answers what it runs and turns others away', async () => {
    const release = Promise.withResolvers<void>()
    run = async () => {
      await release.promise
      return { event_id }
    }
    const server = await serve()
    const { main, directory } = client(server.url)
    const running = main.sendEvent(message)
    await expect.poll(() => server.load.commands).toBe(1)
    // A connection from before, on which a further request comes.
    const socket = connect(Number(new URL(server.url).port), '127.0.0.1')
    await new Promise<void>((resolve) => socket.once('connect', () => resolve()))
    const heard = new Promise<string>((resolve) => socket.once('data', (chunk) => resolve(chunk.toString())))
    socket.write('POST /commands/sendEvent HTTP/1.1\r\n')
    await new Promise((resolve) => setTimeout(resolve, 20))
    const stopped = server.stop(5_000)
    socket.write(`Host: x\r\nAuthorization: Bearer ${secret}\r\nContent-Length: 0\r\n\r\n`)
    expect(await heard).toMatch(/^HTTP\/1\.1 503 .*x-ganglion-reason: stopping/s)
    const later = main.sendEvent(message)
    directory.set({ all: { id: 'other', url: (await serve()).url, epoch: 2 } })
    release.resolve()
    expect(await running).toEqual({ event_id })
    expect(await later).toEqual({ event_id })
    await stopped
  })

  test('the lease in doubt: tried for some seconds, not for all the time', async () => {
    let doubts = 2
    run = async () => {
      if (doubts-- > 0) throw new NotRunError('away')
      return { event_id }
    }
    expect(await client((await serve()).url).main.sendEvent(message)).toEqual({ event_id })
  })

  test('a socket that a killed process left is taken over, one that is in use is not', async () => {
    const socketPath = path.join(folder, 'main.sock')
    const first = await serve({ listen: { path: socketPath } })
    await expect(serve({ listen: { path: socketPath } })).rejects.toThrow('another program takes commands')
    await first.stop(0)
    // What a kill leaves: the file, and nobody behind it.
    const killed = createTcpServer()
    await new Promise<void>((resolve) => killed.listen(`${socketPath}.own`, resolve))
    linkSync(`${socketPath}.own`, socketPath)
    await new Promise((resolve) => killed.close(resolve))
    const again = await serve({ listen: { path: socketPath } })
    expect(await client(again.url).main.sendEvent(message)).toEqual({ event_id })
  })

  test('a taken port is named', async () => {
    const { port } = new URL((await serve()).url)
    await expect(serve({ listen: { port: Number(port), bind: '127.0.0.1' } })).rejects.toThrow(
      /cannot take commands on 127\.0\.0\.1:\d+ \(`commands\.listen`\): it is taken/,
    )
  })
})

describe('too much at once', () => {
  test('beyond the bound others are refused at once, with Retry-After, and come through when there is room', async () => {
    const release = Promise.withResolvers<void>()
    run = async () => {
      await release.promise
      return { event_id }
    }
    const server = await serve({ queueMax: 5 })
    const { main } = client(server.url)
    const held = Array.from({ length: 5 }, () => main.sendEvent(message))
    await expect.poll(() => server.load.commands).toBe(5)
    const before = performance.now()
    expect(await raw(server)).toMatchObject({ status: 503, reason: 'overloaded', headers: { 'retry-after': '1' } })
    expect(performance.now() - before).toBeLessThan(500)
    const waiting = Array.from({ length: 50 }, () => main.sendEvent(message))
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(server.load.commands).toBe(5)
    release.resolve()
    for (const answer of await Promise.all([...held, ...waiting])) expect(answer).toEqual({ event_id })
  })
})

describe('positions', () => {
  test('main waits until it knows what the sender knows; if that does not come, the command is not run', async () => {
    const streams = replication()
    const server = await serve({}, false)
    let runs = 0
    server.open({
      runner: {
        async run() {
          runs++
          return { event_id }
        },
        runHere: () => undefined,
      },
      replication: streams,
    })
    const after = { 'x-ganglion-after': 'events:7,receipts:0,unknown:9' }
    const answer = raw(server, { headers: after })
    await expect.poll(() => server.load.commands).toBe(1)
    expect(runs).toBe(0)
    streams.publish('events', { prev: 0 as StreamPosition, position: 7 as StreamPosition, rows: [] })
    const { status, headers } = await answer
    expect(status).toBe(200)
    expect(headers['x-ganglion-positions']).toMatch(/^events:7,/)
    const late = { 'x-ganglion-after': 'events:8', 'x-ganglion-deadline': '50' }
    expect(await raw(server, { headers: late })).toMatchObject({ status: 503, reason: 'behind' })
    expect(runs).toBe(1)
  })
})
