/** The image and the compose file, used as an operator uses them: deploy, talk, upgrade, scale and roll back under load. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { freePort } from '../../infra/dev/free-port.ts'
import { sharedSecretRegistration } from './accounts.ts'
import { type Front, startFront } from './front.ts'
import { startLoad } from './load.ts'
import { buildImage, imageBytes, podman, root, run } from './podman.ts'

const image = 'localhost/ganglion-test'
/** What the project may add to the image of Node that it stands on. */
const ownBytesMax = 45_000_000
const base = 'docker.io/library/node:24-bookworm-slim'

const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-compose-'))
const project = `gtest${process.pid}`
const dir = path.join(folder, project)
/** Private, and seldom used by others. */
const subnet = `10.231.${process.pid % 250}.0/24`
const compose = (...args: string[]) =>
  run(path.join(root, 'infra/scripts/compose'), ['-d', dir, ...args], {
    GANGLION_ENGINE: 'podman',
    // A version that does not start is found out soon.
    GANGLION_READY_SECONDS: '30',
    GANGLION_SUBNET: subnet,
  })
const containersOf = async (service: string) =>
  (
    await podman(
      'ps',
      '--format',
      '{{.Names}}',
      '--filter',
      `label=com.docker.compose.project=${project}`,
      '--filter',
      `label=com.docker.compose.service=${service}`,
    )
  )
    .split('\n')
    .filter((name) => name !== '')

beforeAll(() => buildImage(`${image}:1`))
afterAll(async () => {
  const left = (await podman('ps', '-aq', '--filter', `label=com.docker.compose.project=${project}`))
    .split('\n')
    .filter(Boolean)
  if (left.length > 0) await podman('rm', '-f', '-t', '1', ...left)
  const networks = await podman('network', 'ls', '--format', '{{.Name}}')
  if (networks.split('\n').includes(project)) await podman('network', 'rm', '-f', project)
  const volumes = (await podman('volume', 'ls', '-q')).split('\n').filter((name) => name.startsWith(`${project}_`))
  if (volumes.length > 0) await podman('volume', 'rm', '-f', ...volumes)
  const images = (await podman('images', '--format', '{{.Repository}}:{{.Tag}}')).split('\n')
  const ours = images.filter((name) => name.startsWith(`${image}:`) || name.startsWith(`localhost/${project}:`))
  if (ours.length > 0) await podman('rmi', '-f', ...ours)
  rmSync(folder, { recursive: true, force: true })
})

describe('the image', () => {
  test('adds little to the one that it stands on', async () => {
    expect((await imageBytes(`${image}:1`)) - (await imageBytes(base))).toBeLessThan(ownBytesMax)
  })

  test('runs as nobody special, with nothing to write to, and names its roles', async () => {
    const inside = ['run', '--rm', '--read-only', '--cap-drop', 'all', '--entrypoint', 'sh', `${image}:1`, '-c']
    expect(await podman(...inside, 'id -u; touch /app/x 2>/dev/null || echo refused')).toBe('991\nrefused\n')
    await expect(podman('run', '--rm', '-e', 'GANGLION_ROLE=mian', `${image}:1`)).rejects.toThrow(
      'expected one of client edge federation main media monolith sync; got mian',
    )
    expect(await podman('run', '--rm', '--read-only', `${image}:1`, 'generate-signing-key')).toMatch(/^ed25519 a_/)
  })
})

describe('compose', () => {
  let front: Front
  let ports: [number, number]
  const register = (name: string) =>
    sharedSecretRegistration(
      front.baseUrl,
      readFileSync(path.join(dir, 'secrets/registration_shared_secret'), 'utf8'),
      name,
    )

  /** Runs `action` while users talk; nothing may fail, nothing be lost. */
  async function underLoad(run: string, action: () => Promise<unknown>): Promise<void> {
    const load = await startLoad(front.baseUrl, (name) => register(`${run}-${name}`), 3)
    try {
      await action()
    } finally {
      const { requests, failures, lost } = await load.stop()
      expect({ failures, lost }).toEqual({ failures: [], lost: [] })
      expect(requests).toBeGreaterThan(100)
    }
  }

  beforeAll(async () => {
    mkdirSync(path.join(dir, 'config'), { recursive: true })
    writeFileSync(path.join(dir, 'config/test.yaml'), 'rate_limits: { enabled: false }\n')
    ports = [await freePort(), 0]
    ports[1] = ports[0] + 1
    await compose('deploy', '--server-name', 'compose.test', '--image', `${image}:1`, '--port', String(ports[0]))
    front = await startFront(ports)
  })
  afterAll(() => front?.stop())

  test('secrets are for their owner alone, and stores are not published', async () => {
    const published = await podman(
      'ps',
      '--format',
      '{{.Names}} {{.Ports}}',
      '--filter',
      `label=com.docker.compose.project=${project}`,
    )
    for (const line of published.trim().split('\n')) {
      if (/edge/.test(line)) expect(line).toMatch(/ 127\.0\.0\.1:\d+->8008\/tcp$/)
      else expect(line).not.toContain('->')
    }
  })

  test('users talk while nothing happens', () =>
    underLoad('still', () => new Promise((resolve) => setTimeout(resolve, 3_000))))

  /** A picture of somebody: it is the same whichever containers are there. */
  let uploaded: { readonly content_uri: string; readonly access_token: string }
  const picture = async () => {
    const answer = await fetch(
      `${front.baseUrl}/_matrix/client/v1/media/download/${uploaded.content_uri.slice('mxc://'.length)}`,
      { headers: { authorization: `Bearer ${uploaded.access_token}` } },
    )
    return `${answer.status} ${await answer.text()}`
  }
  test('media are kept', async () => {
    const { access_token } = await register('painter')
    const answer = await fetch(`${front.baseUrl}/_matrix/media/v3/upload`, {
      method: 'POST',
      headers: { authorization: `Bearer ${access_token}`, 'content-type': 'text/plain' },
      body: 'a picture',
    })
    const { content_uri } = (await answer.json()) as { content_uri: string }
    uploaded = { content_uri, access_token }
    expect(await picture()).toBe('200 a picture')
  })

  test('an upgrade fails no request', async () => {
    await buildImage(`${image}:2`)
    await underLoad('upgrade', () => compose('upgrade', `${image}:2`))
    const running = await podman(
      'ps',
      '--format',
      '{{.ImageID}}',
      '--filter',
      `label=com.docker.compose.project=${project}`,
      '--filter',
      'name=sync',
    )
    const wanted = (await podman('image', 'inspect', '--format', '{{.Id}}', `${image}:2`)).trim()
    for (const id of running.trim().split('\n')) expect(wanted.startsWith(id)).toBe(true)
    expect(await picture()).toBe('200 a picture')
  })

  test('more and fewer processes fail no request', async () => {
    await underLoad('scale', async () => {
      await compose('scale', 'sync=3', 'main=3', 'client=1')
      expect(await containersOf('sync')).toHaveLength(3)
      await compose('scale', 'sync=1', 'main=1', 'client=2')
      expect(await containersOf('sync')).toHaveLength(1)
    })
  })

  test('what does not start is taken back before anything was stopped', async () => {
    await podman(
      'build',
      '-q',
      '--format',
      'docker',
      '-t',
      `${image}:broken`,
      '-f',
      'test/infra/broken.Dockerfile',
      '--build-arg',
      `IMAGE=${image}:2`,
      'test/infra',
    )
    await underLoad('broken', async () => {
      await expect(compose('upgrade', `${image}:broken`)).rejects.toThrow('the upgrade was undone')
    })
  })

  test('a roll back fails no request', async () => {
    await underLoad('back', () => compose('rollback'))
    const status = await compose('status')
    expect(status.match(/"ready":true/g)?.length).toBe(8)
  })
})
