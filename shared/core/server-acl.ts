/** Which servers may take part in a room. https://spec.matrix.org/v1.19/client-server-api/#mroomserver_acl */
import { isJsonObject, type JsonValue } from '../matrix/json-value.ts'
import { compileGlob, type Glob } from './glob.ts'

export interface ServerAcl {
  /** `server`: a server's name, with or without a port. */
  allows(server: string): boolean
}

const everybody: ServerAcl = { allows: () => true }

/** `content`: of the room's m.room.server_acl; undefined where it has none. What of it has not the form it should have
 *  counts as absent, as other servers take it. */
export function serverAcl(content: JsonValue | undefined): ServerAcl {
  if (content === undefined) return everybody
  const { allow, deny, allow_ip_literals } = isJsonObject(content) ? content : {}
  const allowed = globsOf(allow)
  const denied = globsOf(deny)
  return {
    allows(server) {
      const host = hostOf(server).toLowerCase()
      if (allow_ip_literals === false && isIpLiteral(host)) return false
      if (denied.some((glob) => glob.matches(host))) return false
      return allowed.some((glob) => glob.matches(host))
    },
  }
}

function globsOf(patterns: JsonValue | undefined): Glob[] {
  if (!Array.isArray(patterns)) return []
  return patterns.filter((pattern) => typeof pattern === 'string').map((pattern) => compileGlob(pattern.toLowerCase()))
}

/** Without the port: rules are about hosts. */
function hostOf(server: string): string {
  return server.replace(/:\d*$/, '')
}

/** https://spec.matrix.org/v1.19/appendices/#server-name: IPv4 in four decimal parts, IPv6 in brackets. */
function isIpLiteral(host: string): boolean {
  return host.startsWith('[') || /^\d{1,3}(?:\.\d{1,3}){3}$/.test(host)
}
