/** What the federation role's routes may use; `entry.ts` or the monolith puts it together. */
import type { Clock } from '../../shared/clock.ts'
import type { Config } from '../../shared/config/schema.ts'
import { routesFor } from '../../shared/http/route.ts'
import type { SigningKey } from '../../shared/matrix/signatures.ts'

export interface FederationDeps {
  readonly config: Config
  readonly clock: Clock
  /** The server's own, at least one; the first signs. */
  readonly signingKeys: readonly SigningKey[]
}

export const route = routesFor<FederationDeps>()
