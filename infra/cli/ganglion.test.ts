import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const program = path.join(import.meta.dirname, 'ganglion.ts')
let folder: string
beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'ganglion-cli-'))
})
afterAll(() => rmSync(folder, { recursive: true }))

function ganglion(args: readonly string[], input?: string) {
  const result = spawnSync(process.execPath, [program, ...args], {
    cwd: folder,
    encoding: 'utf8',
    env: { PATH: process.env.PATH },
    ...(input === undefined ? {} : { input }),
  })
  return { code: result.status, out: result.stdout, err: result.stderr }
}

describe('ganglion', () => {
  test('without a command it tells what there is, and exits with 2', () => {
    const { code, out } = ganglion([])
    expect(code).toBe(2)
    expect(out).toContain('check-config')
  })

  test.each([
    'generate-config',
    'check-config',
    'register-user',
    'migrate',
    'doctor',
    'explain',
    'resolve-state',
    'generate-docs',
  ])('%s --help explains it', (command) => {
    const { code, out } = ganglion([command, '--help'])
    expect(code).toBe(0)
    expect(out).toContain(`Usage: ganglion ${command}`)
  })

  test.each([
    { args: ['nothing'], err: 'there is no command nothing' },
    { args: ['check-config', '--colour'], err: "Unknown option '--colour'" },
    { args: ['register-user'], err: '--user is needed' },
    { args: ['generate-config'], err: '--server-name is needed' },
    { args: ['migrate', '-c', 'none.yaml'], err: 'none.yaml: there is no such file or folder' },
  ])('a wrong command line exits with 2: $args', ({ args, err }) => {
    const result = ganglion(args)
    expect(result.code).toBe(2)
    expect(result.err).toContain(err)
    expect(result.err).not.toContain('    at ')
  })

  test('a generated configuration can be used, is for its owner alone, and is not overwritten', () => {
    const made = ganglion(['generate-config', '--server-name', 'example.org'])
    expect(made.code).toBe(0)
    expect(statSync(path.join(folder, 'homeserver.yaml')).mode & 0o777).toBe(0o600)
    expect(statSync(path.join(folder, 'data/signing.key')).mode & 0o777).toBe(0o600)
    const checked = ganglion(['check-config', '-c', 'homeserver.yaml', '--strict', '--print'])
    expect(checked).toMatchObject({ code: 0, err: '' })
    expect(checked.out).toContain('shared_secret: "[secret]"')
    expect(ganglion(['generate-config', '--server-name', 'example.org']).code).toBe(2)
  })

  test('check-config names what is wrong', () => {
    writeFileSync(path.join(folder, 'bad.yaml'), 'server_name: example.org\nlog: {level: loud}\nlistners: []\n')
    const { code, err } = ganglion(['check-config', '-c', 'bad.yaml'])
    expect(code).toBe(2)
    expect(err).toContain('bad.yaml: log.level: expected one of trace, debug, info, warn, error, but got "loud"')
    expect(err).toContain('listners is unknown and ignored; did you mean listeners?')
  })

  test('register-user says when the server does not answer', () => {
    const { code, err } = ganglion(
      ['register-user', '-k', 'x', '-u', 'alice', '--password-file', '-', '--url', 'http://127.0.0.1:1'],
      'hush',
    )
    expect(code).toBe(2)
    expect(err).toContain('http://127.0.0.1:1 does not answer')
  })
})
