/** The generated configurations in the real proxies: every route of the table goes where the table says, raw. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { freePort } from '../../infra/dev/free-port.ts'
import { prefixes } from '../../shared/http/route-data.ts'
import { roleOf, roles, routeTable } from '../../shared/http/route-table.ts'
import { HttpClient } from '../support/http-client.ts'
import { type Answer, rawRequest, type Seen, type TestHandler, telling, testHandler, until } from './support.ts'

const command = path.resolve(import.meta.dirname, '../../infra/cli/ganglion.ts')
const longPollMs = 1_000
const handlers: TestHandler[] = []
const upstreamArguments: string[] = []

beforeAll(async () => {
  for (const role of roles) {
    // Two of each: what is kept together has to be kept together on one of them.
    for (const name of ['a', 'b']) {
      const tells = telling(`${role} ${name}`)
      const answer: Answer = (incoming, outgoing) => {
        if (incoming.url === '/ready') outgoing.end('{}')
        else if (incoming.url?.includes('timeout=long')) setTimeout(() => tells(incoming, outgoing), longPollMs)
        else tells(incoming, outgoing)
      }
      const handler = await testHandler(answer)
      handlers.push(handler)
      upstreamArguments.push('--upstream', `${role}=${handler.url}`)
    }
  }
})
afterAll(async () => {
  for (const handler of handlers) await handler.close()
})

function generated(proxy: string, port: number): string {
  return execFileSync(
    process.execPath,
    [command, 'proxy-config', proxy, '--port', String(port), ...upstreamArguments],
    {
      encoding: 'utf8',
    },
  )
}

/** Arguments that start the proxy on a configuration in this folder, in the foreground. */
const proxies: Readonly<Record<string, (folder: string, config: string) => string[]>> = {
  nginx(folder, config) {
    for (const name of ['body', 'proxy']) mkdirSync(path.join(folder, name))
    writeFileSync(path.join(folder, 'ganglion.conf'), config)
    writeFileSync(
      path.join(folder, 'nginx.conf'),
      `daemon off; pid ${folder}/pid; error_log stderr error; worker_processes 1;
${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 2048; }
http {
  client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s;
  include ${folder}/ganglion.conf;
}
`,
    )
    return ['-p', folder, '-c', path.join(folder, 'nginx.conf')]
  },
  haproxy(folder, config) {
    writeFileSync(path.join(folder, 'haproxy.cfg'), config)
    return ['-db', '-f', path.join(folder, 'haproxy.cfg')]
  },
  caddy(folder, config) {
    // Its interface for administration is of no use here, and its port may be taken.
    writeFileSync(path.join(folder, 'Caddyfile'), `{\n\tadmin off\n}\n${config}`)
    return ['run', '--adapter', 'caddyfile', '--config', path.join(folder, 'Caddyfile')]
  },
}

function isInstalled(proxy: string): boolean {
  return spawnSync(proxy, [proxy === 'caddy' ? 'version' : '-v'], { stdio: 'ignore' }).status === 0
}

/** One of every kind of value in a parameter: an encoded slash above all. */
function exampleOf(pattern: string): string {
  const values: Readonly<Record<string, string>> = {
    ':roomId': '!some%2Froom%3Aother.example',
    ':eventId': '%24some%2Fevent%2B',
    ':userId': '@some.one%3Aother.example',
    '*': 'a%2Fstate%20key',
  }
  return pattern
    .split('/')
    .map((segment) => values[segment] ?? (segment.startsWith(':') ? 'some%2Fthing%25' : segment))
    .join('/')
}

for (const [proxy, prepare] of Object.entries(proxies)) {
  if (!isInstalled(proxy)) {
    console.log(`${proxy} is not installed: its configuration is not tried`)
    continue
  }
  describe(proxy, () => {
    let running: ChildProcess
    let folder: string
    let port: number
    let client: HttpClient

    beforeAll(async () => {
      folder = mkdtempSync(path.join(tmpdir(), `ganglion-${proxy}-`))
      port = await freePort()
      const args = prepare(folder, generated(proxy, port))
      running = spawn(proxy, args, {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: { ...process.env, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder, HOME: folder },
      })
      let said = ''
      running.stderr?.on('data', (chunk: Buffer) => {
        said = (said + chunk.toString()).slice(-4_000)
      })
      client = new HttpClient('127.0.0.1', port)
      await until(async () => {
        if (running.exitCode !== null) throw new Error(`${proxy} ended with ${running.exitCode}: ${said}`)
        const answer = await fetch(`http://127.0.0.1:${port}/_matrix/client/versions`).catch(() => undefined)
        return answer?.status === 200
      }, `${proxy} starts`)
    })
    afterAll(async () => {
      client.close()
      if (running.exitCode !== null) return
      const ended = new Promise((resolve) => running.once('exit', resolve))
      running.kill('SIGTERM')
      const kill = setTimeout(() => running.kill('SIGKILL'), 3_000)
      await ended
      clearTimeout(kill)
      rmSync(folder, { recursive: true, force: true })
    })

    async function seen(method: string, target: string, body?: string, token?: string): Promise<Seen> {
      const answer = await client.request(method, target, token, body)
      expect(answer.status).toBe(200)
      return JSON.parse(answer.body) as Seen
    }

    test('every route of the table', async () => {
      const wrong: unknown[] = []
      const tried = [
        ...routeTable.map((route) => ({ method: route.method, target: exampleOf(route.path), role: route.role })),
        ...prefixes.map(({ prefix, role }) => ({ method: 'GET', target: `${prefix}not%2Fserved/yet`, role })),
      ]
      for (const { method, target, role } of tried) {
        const withQuery = `${target}?q=a%2Fb+c`
        const body = method === 'GET' ? undefined : '{}'
        const got = await seen(method, withQuery, body)
        if (got.role.split(' ')[0] !== role || got.target !== withQuery || got.method !== method) {
          wrong.push({ method, withQuery, role, got: { role: got.role, target: got.target, method: got.method } })
        }
      }
      expect(wrong).toEqual([])
      expect(tried.length).toBeGreaterThan(300)
    })

    test('what is not for the outside stays inside', async () => {
      for (const target of ['/metrics', '/commands/sendEvent', '/ready', '/_synapse/metrics']) {
        expect(roleOf('GET', target)).toBeUndefined()
        const answer = await fetch(`http://127.0.0.1:${port}${target}`)
        expect(answer.status).toBe(404)
        expect(answer.headers.get('access-control-allow-origin')).toBe('*')
        expect(await answer.json()).toMatchObject({ errcode: 'M_UNRECOGNIZED' })
      }
    })

    test("a client's own X-Forwarded-… reach nobody", async () => {
      const { body } = await rawRequest(
        port,
        [
          'GET /_matrix/client/versions HTTP/1.1',
          'Host: matrix.example.org',
          'X-Forwarded-For: 9.9.9.9',
          'X-Forwarded-Proto: gopher',
          'X-Forwarded-Host: evil.example',
          'X-Real-IP: 9.9.9.9',
          'X-Request-Id: mine',
          'X-Ganglion-Forwarded: 1',
          'Connection: close',
          '\r\n',
        ].join('\r\n'),
      )
      const { headers } = JSON.parse(body.slice(body.indexOf('{'), body.lastIndexOf('}') + 1)) as Seen
      expect(headers).toMatchObject({
        host: 'matrix.example.org',
        'x-forwarded-for': '127.0.0.1',
        'x-forwarded-proto': 'http',
        'x-forwarded-host': 'matrix.example.org',
      })
      expect(headers['x-request-id']).not.toBe('mine')
      for (const name of ['x-real-ip', 'x-ganglion-forwarded', 'forwarded']) expect(headers[name]).toBeUndefined()
    })

    test('a big upload, and one that is too big', async () => {
      const init = { method: 'POST', body: 'x'.repeat(10 * 1024 * 1024) }
      const answer = await fetch(`http://127.0.0.1:${port}/_matrix/media/v3/upload`, init)
      expect(await answer.json()).toMatchObject({ bodyBytes: 10 * 1024 * 1024 })
      const tooBig = 12 * 1024 * 1024 + 1
      const refused = await rawRequest(
        port,
        `POST /_matrix/client/v3/createRoom HTTP/1.1\r\nHost: x\r\nContent-Length: ${tooBig}\r\nConnection: close\r\n\r\n{`,
      )
      expect(refused.status).toBe(413)
      expect(refused.body).toContain('M_TOO_LARGE')
      expect(refused.head).toMatch(/access-control-allow-origin: \*/i)
    })

    test('long polls are waited for', async () => {
      const polls = Array.from({ length: 50 }, () => seen('GET', '/_matrix/client/v3/sync?timeout=long'))
      for (const { role } of await Promise.all(polls)) expect(role).toMatch(/^sync/)
      const waits = /(?:proxy_read_timeout|timeout server|response_header_timeout) (\d+)s/.exec(generated(proxy, port))
      expect(Number(waits?.[1])).toBeGreaterThanOrEqual(180)
    })

    test('requests of one user, and of one room, meet one handler', async () => {
      const eight = async (ask: (i: number) => Promise<Seen>) =>
        (await Promise.all(Array.from({ length: 8 }, (_, i) => ask(i)))).map(({ role }) => role)
      const room = (i: number) => `/_matrix/client/v3/rooms/!room${i}:x/messages`
      for (const ask of [
        (i: number) => seen('GET', '/_matrix/client/v3/sync', undefined, `gat_0000a${i}_some_token`),
        (i: number) => seen('GET', room(i)),
      ]) {
        // A handler that a busy machine held up may be left alone for a moment.
        await until(async () => {
          const [first, again] = [await eight(ask), await eight(ask)]
          return again.join() === first.join() && new Set(first).size === 2
        }, 'each has its handler')
      }
    })
  })
}

describe('traefik', () => {
  interface Dynamic {
    http: {
      routers: Record<string, { rule: string; priority: number; service: string; middlewares: string[] }>
      services: Record<string, { loadBalancer: { servers: { url: string }[]; healthCheck: { path: string } } }>
      middlewares: Record<string, unknown>
    }
  }
  test('has a router for every rule, in order, and a service for every role', () => {
    const { http } = parse(generated('traefik', 8008)) as Dynamic
    for (const role of roles) expect(http.services[`ganglion-${role}`]?.loadBalancer.servers).toHaveLength(2)
    const routers = Object.values(http.routers)
    expect(new Set(routers.map(({ priority }) => priority)).size).toBe(routers.length)
    for (const { service, middlewares } of routers) {
      expect(http.services).toHaveProperty(service)
      for (const name of middlewares) expect(http.middlewares).toHaveProperty(name)
    }
    // Its rules, read as it reads them.
    const sorted = routers.toSorted((a, b) => b.priority - a.priority)
    for (const route of routeTable) {
      const target = route.path.replace(/:\w+/g, 'x').replace('*', 'y/z')
      const fits = sorted.find(({ rule }) => {
        const pattern = /^PathRegexp\(`(.*?)`\)/.exec(rule)?.[1] ?? '(?!)'
        const methods = [...rule.matchAll(/Method\(`(\w+)`\)/g)].map(([, method]) => method)
        return new RegExp(pattern).test(target) && (methods.length === 0 || methods.includes(route.method))
      })
      expect([target, fits?.service]).toEqual([target, `ganglion-${route.role}`])
    }
  })
})
