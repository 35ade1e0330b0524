import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ConfigError, configFrom, loadConfig } from './load.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'ganglion-config-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

function file(name: string, text: string): string {
  const full = path.join(folder, name)
  writeFileSync(full, text)
  return full
}

async function problems(run: () => unknown): Promise<readonly string[]> {
  try {
    await run()
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

describe('the configuration', () => {
  test('needs a server name and nothing else; durations become milliseconds, sizes bytes', async () => {
    expect(configFrom({ server_name: 'example.org' })).toMatchObject({
      server_name: 'example.org',
      listeners: [{ port: 8008, bind: '127.0.0.1' }],
      sessions: { access_token_lifetime: 300_000 },
      limits: { request_body: 262_144 },
      rate_limits: { enabled: true, message: { per_second: 10, burst: 50 } },
    })
  })

  test('a later file wins key by key, lists are replaced, the environment wins over all', async () => {
    const { config, warnings } = await loadConfig({
      paths: [
        file(
          'a.yaml',
          'server_name: a.org\nregistration: {enabled: true, guests: true}\ntrusted_proxies: [10.0.0.1, 10.0.0.2]',
        ),
        file('b.yaml', 'registration: {guests: false}\ntrusted_proxies: [10.0.0.3]'),
      ],
      env: {
        GANGLION_PASSWORD__BCRYPT_ROUNDS: '5',
        GANGLION_SERVER_NAME: 'c.org',
        GANGLION_TEST_DATABASE_URL: 'x',
        HOME: '/',
      },
    })
    expect(config).toMatchObject({
      server_name: 'c.org',
      registration: { enabled: true, guests: false },
      trusted_proxies: ['10.0.0.3'],
      password: { bcrypt_rounds: 5 },
    })
    expect(warnings).toEqual([])
  })

  test('a folder stands for its YAML files in order', async () => {
    file('10.yaml', 'server_name: a.org\nlog: {level: warn}')
    file('20.yml', 'log: {level: error}')
    file('30.txt', 'not: [yaml')
    expect((await loadConfig({ paths: [folder], env: {} })).config.log.level).toBe('error')
  })

  test('a list in the environment is YAML', async () => {
    const env = { GANGLION_SERVER_NAME: 'a.org', GANGLION_LISTENERS: '[{port: 8009, bind: "::1"}]' }
    expect((await loadConfig({ paths: [], env })).config.listeners).toEqual([{ port: 8009, bind: '::1' }])
  })

  test('a secret can stand in a file, without its line end', async () => {
    const secret = file('secret', 'hush\n')
    const config = configFrom({ server_name: 'a.org', registration: { shared_secret_path: secret } })
    expect(config.registration.shared_secret).toBe('hush')
    expect(
      await problems(() =>
        configFrom({ server_name: 'a.org', registration: { shared_secret_path: secret, shared_secret: 'x' } }),
      ),
    ).toEqual([expect.stringContaining('leave one out')])
    expect(
      await problems(() => configFrom({ server_name: 'a.org', registration: { shared_secret_path: '/none' } })),
    ).toEqual([expect.stringContaining('cannot read /none')])
  })

  test.each([
    { yaml: 'registraton: {enabled: true}', says: 'registraton is unknown and ignored; did you mean registration?' },
    {
      yaml: 'shared_secret: x',
      says: 'shared_secret is unknown and ignored; did you mean registration.shared_secret?',
    },
    { yaml: 'registration_shared_secret: x', says: 'did you mean registration.shared_secret?' },
    { yaml: 'listeners: [{port: 1, tls: true}]', says: 'listeners[0].tls is unknown and ignored' },
    { yaml: 'qqqqqqqqqq: 1', says: 'qqqqqqqqqq is unknown and ignored' },
  ])('an unknown key is named: $yaml', async ({ yaml, says }) => {
    const { warnings } = await loadConfig({ paths: [file('a.yaml', `server_name: a.org\n${yaml}`)], env: {} })
    expect(warnings).toEqual([expect.stringContaining(says)])
  })

  test.each([
    { yaml: 'log: {level: loud}', says: 'log.level: expected one of trace, debug, info, warn, error, but got "loud"' },
    {
      yaml: 'sessions: {access_token_lifetime: 5min}',
      says: 'expected a duration such as 30s, 5m or 7d, but got "5min"',
    },
    { yaml: 'limits: {request_body: 1X}', says: 'expected a size such as 512K or 50M, but got "1X"' },
    { yaml: 'password: {bcrypt_rounds: 99}', says: 'expected a whole number from 4 to 20, but got 99' },
    { yaml: 'listeners: [{port: x}]', says: 'listeners[0].port: expected a whole number from 0 to 65535, but got "x"' },
    { yaml: 'registration: 5', says: 'registration: expected keys and values, but got 5' },
    { yaml: 'registration: {shared_secret: 5}', says: 'expected text that is not empty, but got a secret' },
    { yaml: 'server_name: "not a name"', says: 'server_name: expected a host name' },
  ])('a wrong value is told with file, key and what was expected: $yaml', async ({ yaml, says }) => {
    const base = { server_name: 'a.org' }
    const found = await problems(() => loadConfig({ paths: [file('a.yaml', yaml)], env: {}, base }))
    expect(found).toEqual([expect.stringContaining(says)])
    expect(found[0]).toContain('a.yaml')
  })

  test('what is missing, what is no YAML and what is no file is told', async () => {
    expect(await problems(() => loadConfig({ paths: [], env: {} }))).toEqual([
      expect.stringMatching(/^server_name is missing/),
    ])
    expect(await problems(() => loadConfig({ paths: [file('a.yaml', 'a: [1')], env: {} }))).toEqual([
      expect.stringMatching(/a\.yaml, line 1: not YAML/),
    ])
    expect(await problems(() => loadConfig({ paths: ['/none.yaml'], env: {} }))).toEqual([
      expect.stringContaining('no such file'),
    ])
  })
})
