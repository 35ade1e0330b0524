/** What infra/ says of the server has to be what the server is: settings, roles, ports, metrics. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { loadConfig } from '../../shared/config/load.ts'

const root = path.resolve(import.meta.dirname, '../..')
const infra = path.join(root, 'infra')
const read = (file: string) => readFileSync(path.join(infra, file), 'utf8')
const roles = ['edge', 'sync', 'client', 'federation', 'media', 'main'] as const

interface Container {
  readonly env?: readonly { readonly name: string; readonly value?: string }[]
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly [key: string]: unknown
}
interface Manifest {
  readonly kind: string
  readonly metadata: { readonly name: string }
  readonly spec: {
    readonly template: {
      readonly spec: { readonly containers: readonly Container[]; readonly volumes: readonly unknown[] }
    }
    readonly metrics?: readonly { readonly pods: { readonly metric: { readonly name: string } } }[]
  }
}
interface ComposeFile {
  readonly services: Readonly<
    Record<string, { readonly environment?: Readonly<Record<string, string>>; readonly secrets?: readonly string[] }>
  >
  readonly secrets: Readonly<Record<string, unknown>>
}

const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-infra-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const script = (name: string, ...args: string[]) =>
  execFileSync(path.join(infra, 'scripts', name), args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
const documents = (text: string) => parseAllDocuments(text).map((document) => document.toJS() as Manifest | null)

/** Loads a configuration by variables whose secrets' files lie elsewhere here; returns what it warns of. */
async function warningsOf(variables: Readonly<Record<string, string>>): Promise<readonly string[]> {
  const env: Record<string, string> = { GANGLION_SERVER_NAME: 'infra.test' }
  for (const [name, value] of Object.entries(variables)) {
    const isSecret = name.endsWith('_PATH') && /^\/(?:run\/)?secrets\//.test(value)
    env[name] = isSecret ? secretFile(path.basename(value)) : value
  }
  return (await loadConfig({ paths: [], env })).warnings
}

function secretFile(name: string): string {
  const file = path.join(folder, name)
  const values: Record<string, string> = {
    redis_url: 'redis://redis:6379',
    database_url: 'postgres://postgres/ganglion',
    database_read_url: 'postgres://postgres/ganglion',
  }
  writeFileSync(file, values[name] ?? 'a-secret-of-some-length-0123456789abcdef')
  return file
}

describe('compose', () => {
  const compose = parse(read('compose/compose.yaml'), { merge: true }) as ComposeFile
  const services = Object.entries(compose.services)

  test('every role runs, and knows no variable that the configuration does not know', async () => {
    expect(new Set(services.map(([, service]) => service.environment?.GANGLION_ROLE).filter(Boolean))).toEqual(
      new Set(roles),
    )
    for (const [, { environment }] of services) expect(await warningsOf(environment ?? {})).toEqual([])
  })

  test('a service reads the secrets that it is given, and is given no other', () => {
    for (const [name, { environment = {}, secrets = [] }] of services) {
      const used = Object.values(environment).flatMap((value) => /^\/run\/secrets\/(.+)$/.exec(value)?.[1] ?? [])
      expect({ name, secrets: [...secrets].sort() }).toEqual({ name, secrets: used.sort() })
      for (const secret of secrets) expect(Object.keys(compose.secrets)).toContain(secret)
    }
  })
})

describe('kubernetes', () => {
  script('kubernetes', '-d', folder, 'prepare', '--server-name', 'infra.test', '--stores')
  const rendered = (...options: string[]) =>
    documents(script('kubernetes', '-d', folder, 'render', '--image', 'registry.test/ganglion:1', ...options)).filter(
      (manifest) => manifest !== null,
    )
  const plain = rendered('--stores')

  test('every role is deployed, with a disruption budget', () => {
    for (const kind of ['Deployment', 'PodDisruptionBudget']) {
      const names = plain.filter((manifest) => manifest.kind === kind).map((manifest) => manifest.metadata.name)
      expect(names).toEqual(expect.arrayContaining(roles.map((role) => `ganglion-${role}`)))
    }
  })

  test('variables are known, secrets are mounted, ports and images are those asked for', async () => {
    for (const manifest of [...plain, ...rendered('--knative')]) {
      if (!/^(?:Deployment|Service)$/.test(manifest.kind) || !manifest.spec.template) continue
      const { containers, volumes } = manifest.spec.template.spec
      for (const { env = [], image } of containers) {
        if (!env.some(({ name }) => name === 'GANGLION_ROLE')) continue
        expect(image).toBe('registry.test/ganglion:1')
        const variables = Object.fromEntries(env.map(({ name, value }) => [name, value ?? '']))
        expect(await warningsOf(variables)).toEqual([])
        const mounted = JSON.stringify(volumes)
        for (const value of Object.values(variables).filter((text) => text.startsWith('/secrets/'))) {
          expect(mounted).toContain(`"path":"${path.basename(value)}"`)
        }
      }
    }
  })

  test('the autoscaler scales by metrics that processes have', () => {
    const sources = readdirSync(path.join(root, 'shared/metrics')).map((file) =>
      readFileSync(path.join(root, 'shared/metrics', file), 'utf8'),
    )
    const names = [
      ...plain.flatMap((manifest) => manifest.spec?.metrics?.map((metric) => metric.pods.metric.name) ?? []),
      ...[...read('kubernetes/monitoring/adapter-rules.yaml').matchAll(/seriesQuery: '([a-z_]+)/g)].map(
        ([, name]) => name,
      ),
    ]
    expect(names.length).toBeGreaterThan(5)
    for (const name of names) expect(sources.some((text) => text.includes(`'${name}'`))).toBe(true)
  })

  test('what `prepare` makes is for its owner alone, can be used, and is kept', () => {
    const before = readFileSync(path.join(folder, 'secrets/signing_key'), 'utf8')
    expect(before).toMatch(/^ed25519 a_[0-9a-f]{4} [A-Za-z0-9+/]{43}\n$/)
    script('kubernetes', '-d', folder, 'prepare', '--server-name', 'infra.test', '--stores')
    expect(readFileSync(path.join(folder, 'secrets/signing_key'), 'utf8')).toBe(before)
    expect(statSync(path.join(folder, 'secrets')).mode & 0o777).toBe(0o700)
    for (const name of readdirSync(path.join(folder, 'secrets'))) {
      expect(statSync(path.join(folder, 'secrets', name)).mode & 0o777).toBe(0o600)
    }
    const config = path.join(folder, 'config/homeserver.yaml')
    const said = execFileSync(process.execPath, [path.join(infra, 'cli/ganglion.ts'), 'check-config', '-c', config])
    expect(String(said)).toContain('infra.test')
  })
})

describe('systemd', () => {
  const unit = (name: string) => read(`systemd/${name}`)
  /** The unit, and what the script puts beside it. */
  const unitsOf = (role: string) => {
    const beside = [`secrets/${role}.conf`, `${role}.conf`].filter((name) =>
      existsSync(path.join(infra, 'systemd', name)),
    )
    return role === 'main' ? unit('ganglion-main@.service') : ['ganglion-role@.service', ...beside].map(unit).join('')
  }
  const variables = (text: string) =>
    Object.fromEntries(
      [...text.matchAll(/^Environment="?(GANGLION_[A-Z_]+)=(.*?)"?$/gm)].map(([, name, value]) => [
        name ?? '',
        (value ?? '').replace('%d/', '/secrets/').replace('%i', '8110'),
      ]),
    )

  test.each(roles)('the unit of %s knows no variable that the configuration does not know', async (role) => {
    const text = unitsOf(role)
    const { GANGLION_CONFIG_PATH, ...settings } = variables(text)
    expect(GANGLION_CONFIG_PATH).toBe('/etc/ganglion/homeserver.yaml')
    expect(await warningsOf(settings)).toEqual([])
    const loaded = [...text.matchAll(/^LoadCredential=(\w+):/gm)].map(([, name]) => `/secrets/${name}`)
    const used = Object.values(settings).filter((value) => value.startsWith('/secrets/'))
    expect(used.sort()).toEqual(loaded.sort())
  })

  test('the edge gets as small a young generation as in a container', () => {
    const [, others, edge] = /^semi=(\d+)\nif .* = edge \]; then semi=(\d+);/m.exec(read('images/entrypoint')) ?? []
    expect(variables(unitsOf('sync')).GANGLION_SEMI_SPACE_MB).toBe(others)
    expect(variables(unitsOf('edge')).GANGLION_SEMI_SPACE_MB).toBe(edge)
  })
})

test.each(readdirSync(path.join(infra, 'scripts')))('%s explains itself', (name) => {
  execFileSync('bash', ['-n', path.join(infra, 'scripts', name)])
  expect(read(`scripts/${name}`)).toMatch(/^# Usage:|^Usage:/m)
})
