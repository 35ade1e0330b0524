/** Synapse as another homeserver, in a network of its own, with what it keeps in a folder of its own. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { registerBySecret } from '../support/server-process.ts'
import { synapsePython } from './installed.ts'
import type { SecondNetwork } from './second-network.ts'

const sharedSecret = 'test-secret'
const startTimeoutMs = 60_000

export interface SynapseServer {
  readonly baseUrl: string
  readonly server_name: string
  start(): Promise<void>
  stop(): Promise<void>
  register(name: string): ReturnType<typeof registerBySecret>
  /** The end of what it logged. */
  log(): string
  close(): Promise<void>
}

export function synapseServer(options: {
  readonly network: SecondNetwork
  readonly certificatePath: string
  readonly keyPath: string
  readonly caPath: string
}): SynapseServer {
  const { network, certificatePath, keyPath, caPath } = options
  const folder = mkdtempSync(path.join(tmpdir(), 'ganglion-synapse-'))
  const [config, logFile] = [path.join(folder, 'homeserver.yaml'), path.join(folder, 'log')]
  const server_name = `${network.there}:8448`
  const baseUrl = `http://${network.there}:8008`
  writeFileSync(
    path.join(folder, 'signing.key'),
    `ed25519 a_peer ${randomBytes(32).toString('base64').replace(/=+$/, '')}\n`,
  )
  const fast = { per_second: 9999, burst_count: 9999 }
  const resources = [{ names: ['client', 'federation'] }]
  const settings = {
    server_name,
    public_baseurl: `${baseUrl}/`,
    pid_file: path.join(folder, 'pid'),
    report_stats: false,
    signing_key_path: path.join(folder, 'signing.key'),
    tls_certificate_path: certificatePath,
    tls_private_key_path: keyPath,
    media_store_path: path.join(folder, 'media'),
    macaroon_secret_key: 'macaroon',
    form_secret: 'form',
    registration_shared_secret: sharedSecret,
    bcrypt_rounds: 4,
    database: { name: 'sqlite3', args: { database: path.join(folder, 'homeserver.db') } },
    listeners: [
      { port: 8008, bind_addresses: ['0.0.0.0'], type: 'http', tls: false, resources },
      { port: 8448, bind_addresses: ['0.0.0.0'], type: 'http', tls: true, resources },
    ],
    trusted_key_servers: [],
    federation_custom_ca_list: [caPath],
    federation_ip_range_blacklist: [],
    ip_range_blacklist: [],
    federation: { destination_min_retry_interval: '1s', destination_max_retry_interval: '1s' },
    room_list_publication_rules: [{ action: 'allow' }],
    rc_federation: { window_size: 1000, sleep_limit: 9999, sleep_delay: 10, reject_limit: 99_999, concurrent: 10 },
    rc_login: { address: fast, account: fast, failed_attempts: fast },
    rc_joins: { local: fast, remote: fast },
    rc_invites: { per_room: fast, per_user: fast, per_issuer: fast },
    rc_message: fast,
    rc_registration: fast,
    rc_joins_per_room: fast,
    rc_room_creation: fast,
  }
  writeFileSync(config, JSON.stringify(settings))
  let child: ChildProcess | undefined

  async function stop(): Promise<void> {
    const running = child
    child = undefined
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    const ended = new Promise((resolve) => running.once('exit', resolve))
    running.kill('SIGTERM')
    await ended
  }
  const log = () => readFileSync(logFile, 'utf8').slice(-4_000)

  return {
    baseUrl,
    server_name,
    async start() {
      const output = openSync(logFile, 'a')
      const [command, args] = network.inside(synapsePython, '-m', 'synapse.app.homeserver', '--config-path', config)
      const started = spawn(command, args, { cwd: folder, stdio: ['ignore', output, output] })
      child = started
      const deadline = performance.now() + startTimeoutMs
      for (;;) {
        if (started.exitCode !== null) throw new Error(`Synapse ended with ${started.exitCode}:\n${log()}`)
        const answer = await fetch(`${baseUrl}/_matrix/client/versions`).catch(() => undefined)
        if (answer?.ok) return
        if (performance.now() > deadline) throw new Error(`Synapse does not answer:\n${log()}`)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    },
    stop,
    register: (name) => registerBySecret(baseUrl, { sharedSecret, name, admin: false }),
    log,
    async close() {
      await stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
