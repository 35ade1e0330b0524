/** Redis in its larger forms, for tests: over TLS, watched by Sentinels, as a cluster. */
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePort } from '../../infra/dev/free-port.ts'
import { type RedisServer, startRedis } from './redis.ts'

export interface TlsRedis {
  readonly url: string
  /** PEM of the authority that signed the server's certificate: itself. */
  readonly caPath: string
  stop(): Promise<void>
}

export async function startTlsRedis(password: string): Promise<TlsRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'ganglion-redis-tls-'))
  const [key, caPath] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-keyout', key, '-out', caPath, '-subj', '/CN=redis.test', '-addext', 'subjectAltName=IP:127.0.0.1'],
    ],
    { stdio: 'ignore' },
  )
  const server = await startRedis({
    tls: true,
    arguments: [
      ...['--tls-cert-file', caPath, '--tls-key-file', key, '--tls-ca-cert-file', caPath],
      ...['--tls-auth-clients', 'no', '--requirepass', password],
    ],
  })
  return {
    url: `rediss://:${encodeURIComponent(password)}@${server.host}:${server.port}`,
    caPath,
    async stop() {
      await server.stop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export interface SentinelRedis {
  readonly url: string
  /** Whoever Sentinel names now. */
  masterPort(): Promise<number>
  /** Makes the replica the master while both live. */
  failOver(): Promise<void>
  /** Kills the master; the replica takes over within some seconds. */
  killMaster(): Promise<void>
  stop(): Promise<void>
}

/** A master, a replica, and three Sentinels that call a master down after 500 ms. */
export async function startSentinels(): Promise<SentinelRedis> {
  const master = await startRedis()
  const replica = await startRedis({ arguments: ['--replicaof', master.host, String(master.port)] })
  const sentinels = await Promise.all(
    [1, 2, 3].map(async () => {
      const folder = await mkdtemp(join(tmpdir(), 'ganglion-sentinel-'))
      const config = join(folder, 'sentinel.conf')
      const port = await freePort()
      await writeFile(
        config,
        `port ${port}
sentinel monitor ganglion ${master.host} ${master.port} 2
sentinel down-after-milliseconds ganglion 500
sentinel failover-timeout ganglion 2000
`,
      )
      const server = await startRedis({ port, config, sentinel: true })
      return { server, folder }
    }),
  )
  const servers = [master, replica]
  const masterPort = async () => {
    const answer = await sentinels[0]!.server.command('SENTINEL GET-MASTER-ADDR-BY-NAME ganglion')
    return Number(/\r\n(\d+)\r\n$/.exec(answer)?.[1])
  }
  // A failover needs Sentinels that know one another and the replica.
  await until(async () => {
    const answers = await Promise.all(sentinels.map(({ server }) => server.command('SENTINEL MASTER ganglion')))
    return answers.every(
      (answer) => field(answer, 'num-other-sentinels') === '2' && field(answer, 'num-slaves') === '1',
    )
  })
  await until(async () => (await replica.command('INFO replication')).includes('master_link_status:up'))
  return {
    url: `redis+sentinel://${sentinels.map(({ server }) => `${server.host}:${server.port}`).join(',')}/ganglion`,
    masterPort,
    failOver: async () => void (await sentinels[0]!.server.command('SENTINEL FAILOVER ganglion')),
    async killMaster() {
      const port = await masterPort()
      await servers.find((server) => server.port === port)?.kill()
    },
    async stop() {
      await Promise.all([
        ...servers.map((server) => server.stop()),
        ...sentinels.map(async ({ server, folder }) => {
          await server.stop()
          await rm(folder, { recursive: true, force: true })
        }),
      ])
    },
  }
}

export interface ClusterRedis {
  readonly url: string
  /** The masters first, in the order of their slots. */
  readonly nodes: readonly RedisServer[]
  /** Of the first master. */
  readonly replica: RedisServer | undefined
  /** The name by which the cluster knows a node. */
  id(node: RedisServer): Promise<string>
  /** Gives one slot from its owner to another master, all at once. */
  moveSlot(slot: number, to: number): Promise<void>
  stop(): Promise<void>
}

/** Masters that share the slots evenly, and a replica of the first if one is asked for. Where it rejects, none of them is left:
 *  a server that outlives its test would keep the test's output open, and whoever waits for its end. */
export async function startCluster(options: { masters?: number; replica?: boolean } = {}): Promise<ClusterRedis> {
  const started = new Set<RedisServer>()
  try {
    return await clusterOf(started, options)
  } catch (error) {
    await Promise.all([...started].map((server) => server.stop()))
    throw error
  }
}

async function clusterOf(
  started: Set<RedisServer>,
  { masters = 3, replica = false }: { masters?: number; replica?: boolean },
): Promise<ClusterRedis> {
  // Between themselves they would talk over ports 10,000 above their own, where anybody may be.
  const busPorts = new Map<RedisServer, number>()
  const start = async () => {
    const busPort = await freePort()
    const bus = ['--cluster-port', String(busPort)]
    const node = await startRedis({ arguments: ['--cluster-enabled', 'yes', '--cluster-node-timeout', '1000', ...bus] })
    busPorts.set(node, busPort)
    started.add(node)
    return node
  }
  const nodes: RedisServer[] = []
  for (let i = 0; i < masters; i++) nodes.push(await start())
  const spare = replica ? await start() : undefined
  const all = spare ? [...nodes, spare] : nodes
  const [first] = nodes
  const each = Math.ceil(16_384 / masters)
  await Promise.all(
    nodes.map((node, i) => node.command(`CLUSTER ADDSLOTSRANGE ${i * each} ${Math.min(16_383, (i + 1) * each - 1)}`)),
  )
  for (const [i, node] of nodes.entries()) await node.command(`CLUSTER SET-CONFIG-EPOCH ${i + 1}`)
  for (const node of all) {
    await node.command(`CLUSTER MEET ${first!.host} ${first!.port} ${busPorts.get(first!)}`)
  }
  await until(async () => {
    const answers = await Promise.all(all.map((node) => node.command('CLUSTER INFO')))
    return answers.every(
      (answer) => answer.includes('cluster_state:ok') && answer.includes(`cluster_known_nodes:${all.length}`),
    )
  })
  const id = async (node: RedisServer) => /\r\n([0-9a-f]{40})\r\n/.exec(await node.command('CLUSTER MYID'))?.[1] ?? ''
  if (spare) {
    await spare.command(`CLUSTER REPLICATE ${await id(first!)}`)
    await until(async () => (await spare.command('INFO replication')).includes('master_link_status:up'))
    await until(async () => (await first!.command('CLUSTER SLOTS')).includes(String(spare.port)))
  }
  return {
    url: `redis+cluster://${nodes.map((node) => `${node.host}:${node.port}`).join(',')}`,
    nodes,
    replica: spare,
    id,
    async moveSlot(slot, to) {
      const owner = await id(nodes[to]!)
      for (const node of [nodes[to]!, ...nodes]) await node.command(`CLUSTER SETSLOT ${slot} NODE ${owner}`)
    },
    stop: async () => void (await Promise.all(all.map((node) => node.stop()))),
  }
}

function field(answer: string, name: string): string | undefined {
  return new RegExp(`\\r\\n${name}\\r\\n\\$\\d+\\r\\n([^\\r]*)`).exec(answer)?.[1]
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const untilMs = performance.now() + 15_000
  while (!(await holds())) {
    if (performance.now() > untilMs) throw new Error('Redis did not get ready within 15 s')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
