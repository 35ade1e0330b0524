/** Which other servers this one has to do with at all, by the configuration. */
import type { Config } from '../config/schema.ts'
import { compileGlob, type Glob } from '../core/glob.ts'
import { type ServerName, serverNameParts } from '../matrix/ids.ts'

export interface ServerRules {
  allows(server: ServerName): boolean
}

/** Names are compared without their ports. What is denied is denied although it is allowed too. */
export function serverRules({ enabled, allowed_servers, denied_servers }: Config['federation']): ServerRules {
  const compile = (patterns: readonly string[]) => patterns.map((pattern) => compileGlob(pattern.toLowerCase()))
  const allowed = allowed_servers && compile(allowed_servers)
  const denied = compile(denied_servers)
  return {
    allows(server) {
      if (!enabled) return false
      const hostname = serverNameParts(server).hostname.toLowerCase()
      const among = (globs: readonly Glob[]) => globs.some((glob) => glob.matches(hostname))
      return !among(denied) && (allowed === undefined || among(allowed))
    },
  }
}
