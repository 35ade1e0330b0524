import { stringify } from 'yaml'
import { roles } from '../../../shared/http/route-table.ts'
import { generatedNote, type PathRule, type ProxySettings, pathRules } from './rules.ts'

/** A file for Traefik's file provider (version 3). Traefik keeps requests together by cookies alone, which Matrix clients do
 *  not keep: its handlers' caches hit less often. */
export function traefikConfig({ handlers, port }: ProxySettings): string {
  const rules = pathRules()
  const routers = Object.fromEntries(
    rules.map((rule, i) => [
      `ganglion-${String(i + 1).padStart(2, '0')}-${rule.role}`,
      {
        entryPoints: ['matrix'],
        rule: ruleText(rule),
        // The first that fits counts.
        priority: 1000 - i,
        service: `ganglion-${rule.role}`,
        middlewares: ['ganglion-headers'],
      },
    ]),
  )
  const services = Object.fromEntries(
    roles.map((role) => [
      `ganglion-${role}`,
      {
        loadBalancer: {
          servers: handlers[role].map((url) => ({ url })),
          passHostHeader: true,
          healthCheck: { path: '/ready', interval: '1s', timeout: '2s' },
          responseForwarding: { flushInterval: '-1ms' },
        },
      },
    ]),
  )
  const middlewares = {
    'ganglion-headers': {
      headers: { customRequestHeaders: { 'X-Ganglion-Forwarded': '', Forwarded: '', 'X-Real-IP': '' } },
    },
  }
  return `# ${generatedNote}
# The static configuration needs an entry point of this name that lets encoded characters through, and long polls:
#   entryPoints:
#     matrix:
#       address: ":${port}"
#       http:
#         encodedCharacters:
#           allowEncodedSlash: true
#           allowEncodedBackSlash: true
#           allowEncodedSemicolon: true
#           allowEncodedPercent: true
#           allowEncodedQuestionMark: true
#           allowEncodedHash: true
#       transport:
#         respondingTimeouts: { readTimeout: 1800s, writeTimeout: 0, idleTimeout: 75s }
${stringify({ http: { routers, services, middlewares } }, { lineWidth: 0 })}`
}

function ruleText({ pattern, methods }: PathRule): string {
  // Its expressions see the path without the query.
  const path = `PathRegexp(\`${pattern.replace('(\\?|$)', '$').replaceAll('[^/?]', '[^/]').replaceAll('[^?]', '.')}\`)`
  return methods ? `${path} && (${methods.map((method) => `Method(\`${method}\`)`).join(' || ')})` : path
}
