/** Another homeserver, as far as a test says: it has a name, a key and a certificate, signs what it asks, and answers what the
 *  test has it answer. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { createServer } from 'node:https'
import { isIP } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ServerName } from '../../shared/matrix/ids.ts'
import type { JsonObject } from '../../shared/matrix/json-value.ts'
import { generateSigningKey, type SigningKey, signJson, signText } from '../../shared/matrix/signatures.ts'
import { formatXMatrix, signedRequestText } from '../../shared/matrix/x-matrix.ts'

const host = '127.0.0.1'

export interface PeerRequest {
  readonly method: string
  readonly uri: string
  readonly headers: IncomingMessage['headers']
  readonly body: JsonObject | undefined
}
export interface PeerAnswer {
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: JsonObject | string | Buffer
}

export interface FederationPeer {
  /** An address with a port: it is found without asking anybody. */
  readonly server_name: ServerName
  /** The one that signs now. */
  key: SigningKey
  /** Requests to it, oldest first. */
  readonly requests: PeerRequest[]
  /** Answers paths that begin so; the last that was set counts. Without one it is 404. */
  on(path: string, answer: (request: PeerRequest) => PeerAnswer | Promise<PeerAnswer>): void
  /** What it publishes of its keys. */
  keyDocument(more?: JsonObject): JsonObject
  /** The header of a request that it makes. */
  authorization(request: {
    readonly method: string
    readonly uri: string
    readonly destination: string
    readonly content?: JsonObject
    /** Parameters of the header that are not what was signed. */
    readonly instead?: Readonly<Partial<Record<'origin' | 'destination' | 'key' | 'sig', string>>>
  }): string
  close(): Promise<void>
}

export interface TestAuthority {
  /** PEM of the certificate that vouches for the peers. */
  readonly caPath: string
  readonly keyPath: string
  close(): void
}

/** A thousand addresses of this machine. */
export const loopbackAddresses: readonly string[] = Array.from(
  { length: 1_000 },
  (_, i) => `127.1.${i >> 8}.${i & 255}`,
)

/** One certificate for all that is on this machine, and for these names and addresses. */
export function testAuthority(names: readonly string[] = []): TestAuthority {
  const folder = mkdtempSync(join(tmpdir(), 'ganglion-peers-'))
  const [keyPath, caPath] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-keyout', keyPath, '-out', caPath, '-subj', '/CN=peers.test'],
      ...[
        '-addext',
        `subjectAltName=DNS:peers.test,DNS:*.peers.test,IP:${host}${names.map((name) => `,${isIP(name) ? 'IP' : 'DNS'}:${name}`).join('')}`,
      ],
    ],
    { stdio: 'ignore' },
  )
  return { caPath, keyPath, close: () => rmSync(folder, { recursive: true, force: true }) }
}

export async function federationPeer({ keyPath, caPath }: TestAuthority): Promise<FederationPeer> {
  const requests: PeerRequest[] = []
  const answers: { path: string; answer: (request: PeerRequest) => PeerAnswer | Promise<PeerAnswer> }[] = []
  const server = createServer(
    { key: readFileSync(keyPath), cert: readFileSync(caPath) },
    async (incoming, outgoing) => {
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk as Buffer)
      const text = Buffer.concat(chunks).toString('utf8')
      const request: PeerRequest = {
        method: incoming.method ?? '',
        uri: incoming.url ?? '',
        headers: incoming.headers,
        body: text === '' ? undefined : (JSON.parse(text) as JsonObject),
      }
      requests.push(request)
      const found = answers.findLast(({ path }) => request.uri.startsWith(path))
      const {
        status = 200,
        headers = {},
        body = {},
      } = found
        ? await found.answer(request)
        : { status: 404, body: { errcode: 'M_UNRECOGNIZED', error: 'The peer does not answer that' } }
      outgoing.writeHead(status, { 'content-type': 'application/json', ...headers })
      outgoing.end(typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body))
    },
  )
  await new Promise<void>((resolve) => server.listen(0, host, resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('not listening')

  const peer: FederationPeer = {
    server_name: `${host}:${address.port}` as ServerName,
    key: generateSigningKey('a_peer'),
    requests,
    on: (path, answer) => void answers.push({ path, answer }),
    keyDocument: (more = {}) =>
      signJson(
        {
          server_name: peer.server_name,
          valid_until_ts: Date.now() + 3_600_000,
          verify_keys: { [peer.key.keyId]: { key: peer.key.publicKeyBase64 } },
          old_verify_keys: {},
          ...more,
        },
        peer.server_name,
        peer.key,
      ),
    authorization({ method, uri, destination, content, instead }) {
      const origin = peer.server_name
      const text = signedRequestText({ method, uri, origin, destination, content })
      return formatXMatrix({ origin, destination, key: peer.key.keyId, sig: signText(text, peer.key), ...instead })
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  peer.on('/_matrix/key/v2/server', () => ({ body: peer.keyDocument() }))
  return peer
}
