/** SRV records of homeservers. */
import { Resolver } from 'node:dns/promises'

export interface SrvRecord {
  /** A host name; never an alias, by the rules of DNS. */
  readonly name: string
  readonly port: number
  /** Smaller ones are tried first. */
  readonly priority: number
  /** How often it comes first among those of its priority. */
  readonly weight: number
}

/** The records of a name; none where there are none. Rejects where the name servers can't say. */
export type SrvLookup = (name: string) => Promise<readonly SrvRecord[]>

const timeoutMs = 5_000
const tries = 2

export function systemSrvLookup(): SrvLookup {
  const resolver = new Resolver({ timeout: timeoutMs, tries })
  return async (name) => {
    try {
      return await resolver.resolveSrv(name)
    } catch (error) {
      if (error instanceof Error && 'code' in error && (error.code === 'ENOTFOUND' || error.code === 'ENODATA'))
        return []
      throw error
    }
  }
}

/** In the order in which they are to be tried: by priority, and within one at random by weight. `random` is in [0, 1).
 *  https://www.rfc-editor.org/rfc/rfc2782 */
export function inOrder(records: readonly SrvRecord[], random: () => number): SrvRecord[] {
  const ordered: SrvRecord[] = []
  const byPriority = Map.groupBy(records, ({ priority }) => priority)
  for (const priority of [...byPriority.keys()].sort((a, b) => a - b)) {
    const left = [...(byPriority.get(priority) ?? [])]
    while (left.length > 0) {
      // A weight of none still has a small chance.
      const weights = left.map(({ weight }) => weight || 0.01)
      let at = random() * weights.reduce((sum, weight) => sum + weight, 0)
      const found = weights.findIndex((weight) => {
        at -= weight
        return at < 0
      })
      ordered.push(...left.splice(Math.max(0, found), 1))
    }
  }
  return ordered
}
