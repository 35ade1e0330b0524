import type { Role } from '../../../shared/http/route.ts'
import { roles } from '../../../shared/http/route-table.ts'
import {
  addressesOf,
  answerSeconds,
  generatedNote,
  type ProxySettings,
  pathRules,
  proxyErrorStatuses,
  proxyErrors,
  roomPatterns,
} from './rules.ts'

/** A whole haproxy.cfg, from HAProxy 2.6 on. */
export function haproxyConfig({ handlers, port, bodyBytesMax }: ProxySettings): string {
  const rules = pathRules()
  return `# ${generatedNote}
global
    # A path may hold an event id, a state key and a room id, each percent-encoded.
    tune.bufsize 65536
    tune.maxrewrite 2048

defaults
    mode http
    timeout connect 3s
    timeout client ${answerSeconds + 60}s
    timeout server ${answerSeconds}s
    timeout http-request 30s
    timeout http-keep-alive 75s
    timeout queue 5s
    timeout check 3s
    option http-keep-alive
    option redispatch 1
    retries 2
    retry-on conn-failure empty-response
${proxyErrorStatuses.map(errorLine).join('')}
frontend ganglion
    bind :${port}
    # With a certificate: bind :443 ssl crt /etc/haproxy/certs/ alpn h2,http/1.1

    # Only what this proxy saw itself.
    http-request del-header Forwarded
    http-request del-header X-Real-IP
    http-request del-header X-Ganglion-Forwarded
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Request-Id %[uuid()]

    # The raw path decides, so that an encoded slash stays what it is.
    http-request set-var(txn.role) str(none)
${rules
  .map(({ pattern, role, methods }) => {
    const method = methods ? ` METH_${methods.join(' METH_')}` : ''
    return `    http-request set-var(txn.role) str(${role}) if { var(txn.role) -m str none } { pathq -m reg ${quoted(pattern)} }${method}\n`
  })
  .join(
    '',
  )}    http-request return status 404 content-type application/json string ${quoted(JSON.stringify(proxyErrors[404]))} hdr Access-Control-Allow-Origin "*" if { var(txn.role) -m str none }
${roles
  .map(
    (role) =>
      `    http-request return status 413 content-type application/json string ${quoted(JSON.stringify(proxyErrors[413]))} hdr Access-Control-Allow-Origin "*" if { var(txn.role) -m str ${role} } { req.body_size gt ${bodyBytesMax[role]} }\n`,
  )
  .join('')}
    # What the caches of handlers go by; a hint that changes no answer.
    http-request set-var(txn.key) uuid()
    http-request set-var(txn.key) req.hdr(authorization) if { req.hdr(authorization) -m found }
    http-request set-var(txn.key) req.hdr(authorization),word(2,_) if { req.hdr(authorization) -m reg ^Bearer\\ g[ar]t_ }
    http-request set-var(txn.key) req.hdr(authorization),regsub(.*origin=,),regsub([^A-Za-z0-9._:-].*,) if { req.hdr(authorization) -m beg -i X-Matrix }
${roomPatterns()
  .map(
    (pattern) =>
      `    http-request set-var(txn.key) path,field(${roomField(pattern)},/) if { var(txn.role) -m str client } { path -m reg ${quoted(pattern)} }\n`,
  )
  .join('')}
    use_backend ganglion_%[var(txn.role)]

${roles.map((role) => backend(role, handlers[role])).join('\n')}`
}

/** Number of the field that the pattern's group is, by slashes, from 1. */
function roomField(pattern: string): number {
  return pattern.slice(0, pattern.lastIndexOf('([^/?]+)')).replaceAll('[^/?]', '').split('/').length
}

function backend(role: Role, urls: readonly string[]): string {
  const servers = addressesOf(urls).map(({ address, tls }, i) => {
    const secure = tls ? ' ssl verify required ca-file @system-ca' : ''
    return `    server ${role}${i + 1} ${address} check inter 1s fall 3 rise 1${secure}\n`
  })
  const balance =
    role === 'media' ? '    balance leastconn\n' : '    balance hash var(txn.key)\n    hash-type consistent\n'
  return `backend ganglion_${role}
${balance}    option httpchk GET /ready
    http-check expect status 200
    http-reuse safe
    # What may have had an effect is not sent to another handler.
    http-request disable-l7-retry unless { method GET HEAD }
${servers.join('')}`
}

function errorLine(status: (typeof proxyErrorStatuses)[number]): string {
  const retry = status >= 502 ? ' hdr Retry-After 2' : ''
  return `    http-error status ${status} content-type application/json string ${quoted(JSON.stringify(proxyErrors[status]))} hdr Access-Control-Allow-Origin "*"${retry}\n`
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
