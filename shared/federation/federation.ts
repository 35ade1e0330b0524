/** What a process needs to have to do with other homeservers, put together. */
import { type Clock, systemClock } from '../clock.ts'
import type { MainClient } from '../commands/registry.ts'
import type { Config } from '../config/schema.ts'
import { createEgress, type Egress } from '../egress/egress.ts'
import type { Resolver } from '../egress/resolver.ts'
import type { Logger } from '../logging.ts'
import type { SigningKey } from '../matrix/signatures.ts'
import type { SharedCache } from '../replication/shared-cache.ts'
import type { ReadSql } from '../storage/sql.ts'
import { createDiscovery, type Discovery } from './discovery.ts'
import { createFederationClient, type FederationClient } from './federation-client.ts'
import { createKeyRing, type KeyRing } from './key-ring.ts'
import { createKeySource } from './key-source.ts'
import { type AuthenticateServer, createServerAuthentication } from './server-authentication.ts'
import { type ServerRules, serverRules } from './server-rules.ts'
import { type SrvLookup, systemSrvLookup } from './srv.ts'

export interface Federation {
  /** This server's own; the first signs. */
  readonly signingKeys: SigningKeys
  readonly client: FederationClient
  readonly discovery: Discovery
  readonly keyRing: KeyRing
  readonly rules: ServerRules
  readonly authenticateServer: AuthenticateServer
  close(): Promise<void>
}

/** All of a server's own, at least one; the first signs. */
export type SigningKeys = readonly [SigningKey, ...SigningKey[]]

/** Other ways to find hosts than the system's, for tests. */
export interface FederationNetwork {
  readonly resolve?: Resolver
  readonly srv?: SrvLookup
}

export interface FederationOptions extends FederationNetwork {
  readonly config: Config
  readonly sql: ReadSql
  readonly main: Pick<MainClient, 'storeServerKeys'>
  readonly signingKeys: SigningKeys
  readonly cache?: SharedCache | undefined
  readonly log: Pick<Logger, 'error'>
  readonly clock?: Clock
}

export function createFederation(options: FederationOptions): Federation {
  const { config, sql, main, signingKeys, cache, log, clock = systemClock } = options
  const { server_name, federation } = config
  // Of its own: it trusts other certificates than requests to pages that users name.
  const egress: Egress = createEgress({
    config: config.egress,
    clock,
    caPath: federation.ca_path,
    ...(options.resolve ? { resolve: options.resolve } : {}),
  })
  const rules = serverRules(federation)
  const srv = options.srv ?? systemSrvLookup()
  const discovery = createDiscovery({ egress, srv, clock, random: Math.random })
  const client = createFederationClient({ server_name, signingKey: signingKeys[0], discovery, egress, rules })
  const keyRing = createKeyRing({
    server_name,
    signingKeys,
    sql,
    main,
    source: createKeySource({ client, clock, notaries: federation.trusted_key_servers }),
    clock,
    cache,
    onError: (err) => log.error({ err }, 'keys of other servers could not be stored'),
  })
  const authenticateServer = createServerAuthentication({ server_name, keyRing, rules, clock })
  return { signingKeys, client, discovery, keyRing, rules, authenticateServer, close: () => egress.close() }
}
