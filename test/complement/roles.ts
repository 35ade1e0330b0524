/** The roles as a Complement homeserver: every request goes to a random handler of its role, or of any role. */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { startRoles } from '../../infra/dev/roles.ts'
import { listenRandomly } from '../support/random-proxy.ts'

const { values } = parseArgs({
  options: {
    folder: { type: 'string' },
    dist: { type: 'string' },
    among: { type: 'string' },
    'server-name': { type: 'string' },
    certificate: { type: 'string' },
    key: { type: 'string' },
  },
})
const { folder, dist, among, 'server-name': server_name, certificate, key } = values
if (!folder || !dist || !server_name || !certificate || !key || (among !== 'handler' && among !== 'role')) {
  throw new Error(
    'usage: roles.ts --folder DIR --dist DIR --among handler|role --server-name NAME --certificate FILE --key FILE',
  )
}

const roles = await startRoles({
  folder,
  dist,
  edge: false,
  handlers: { client: 2, sync: 2, federation: 1, media: 1 },
  output: 'inherit',
  config: {
    server_name,
    database: { fsync: false },
    registration: { enabled: true, guests: true, shared_secret: 'complement' },
    password: { bcrypt_rounds: 4, minimum_length: 1 },
    rooms: { default_version: '11' },
    rate_limits: { enabled: false },
    // The tests' own servers are at private addresses.
    federation: { ca_path: '/complement/ca/ca.crt' },
    egress: { allowed_ranges: ['0.0.0.0/0', '::/0'] },
    media: { freeze_unauthenticated: false },
    log: { level: 'info', format: 'pretty' },
  },
})
const options = { upstreams: roles.urls, among, random: Math.random } as const
const servers = [
  listenRandomly(options).listen(8008, '0.0.0.0'),
  listenRandomly({
    ...options,
    tls: { cert: readFileSync(certificate, 'utf8'), key: readFileSync(key, 'utf8') },
  }).listen(8448, '0.0.0.0'),
]

async function stop(): Promise<void> {
  for (const server of servers) {
    server.close()
    server.closeAllConnections()
  }
  await roles.close()
  process.exit(0)
}
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => void stop())
