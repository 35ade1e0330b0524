import type { Role } from '../../../shared/http/route.ts'
import { roles } from '../../../shared/http/route-table.ts'
import {
  answerSeconds,
  generatedNote,
  type ProxySettings,
  pathRules,
  proxyErrorStatuses,
  proxyErrors,
  roomPatterns,
} from './rules.ts'

/** A whole Caddyfile, from Caddy 2.6 on. */
export function caddyConfig({ handlers, port, bodyBytesMax }: ProxySettings): string {
  return `# ${generatedNote}
# For TLS, put the host's name in place of the address below: matrix.example.org, or matrix.example.org:8448.
http://:${port} {
	# The raw request line decides, so that an encoded slash stays what it is.
	map "{method} {http.request.orig_uri}" {ganglion_role} {
${pathRules()
  .map(({ pattern, role, methods }) => {
    const method = methods ? `(?:${methods.join('|')})` : '[A-Z]+'
    return `\t\t"~^${method} ${pattern.slice(1)}" ${role}\n`
  })
  .join('')}		default none
	}
	# What the caches of handlers go by; a hint that changes no answer.
	map "{http.request.orig_uri} {http.request.header.Authorization}" {ganglion_key} {
${roomPatterns()
  .map((pattern) => `\t\t"~${pattern}" "\${1}"\n`)
  .join('')}		"~^[^ ]+ Bearer g[ar]t_([0-9a-f]+)_" "\${1}"
		"~(?i)^[^ ]+ X-Matrix .*origin=\\"?([^\\",]+)" "\${1}"
		"~^[^ ]+ (.+)" "\${1}"
		default ""
	}

	request_header -X-Ganglion-Forwarded
	request_header -Forwarded
	request_header -X-Real-IP
	request_header X-Request-Id {http.request.uuid}
	request_header X-Ganglion-Key {ganglion_key}

${roles.map((role) => roleBlock(role, handlers[role], bodyBytesMax[role])).join('')}	handle {
		error 404
	}

	handle_errors {
		header Access-Control-Allow-Origin "*"
		header Access-Control-Allow-Methods "GET, POST, PUT, DELETE, OPTIONS"
		header Access-Control-Allow-Headers "X-Requested-With, Content-Type, Authorization"
		header Content-Type application/json
${proxyErrorStatuses
  .map((status) => {
    const retry = status >= 502 ? `\t\theader @e${status} Retry-After 2\n` : ''
    return `\t\t@e${status} expression {http.error.status_code} == ${status}\n${retry}\t\trespond @e${status} \`${JSON.stringify(proxyErrors[status])}\` ${status}\n`
  })
  .join('')}	}
}
`
}

function roleBlock(role: Role, urls: readonly string[], bodyBytesMax: number): string {
  const proxy =
    urls.length === 0
      ? '\t\terror 503\n'
      : `		reverse_proxy ${urls.map((url) => url.replace(/\/$/, '')).join(' ')} {
			lb_policy ${role === 'media' ? 'least_conn' : 'header X-Ganglion-Key'}
			lb_try_duration 3s
			lb_try_interval 100ms
			fail_duration 2s
			health_uri /ready
			health_interval 2s
			health_timeout 2s
			flush_interval -1
			header_up -X-Ganglion-Key
			transport http {
				dial_timeout 3s
				response_header_timeout ${answerSeconds}s
				keepalive 60s
				keepalive_idle_conns_per_host 512
				compression off
			}
		}
`
  return `	@${role} vars {ganglion_role} ${role}
	handle @${role} {
		# Before a handler has any of it: one that broke off for its size would look as if the handler had failed.
		@too_large_for_${role} expression \`{http.request.header.Content-Length}.matches("^[0-9]+$") && int({http.request.header.Content-Length}) > ${bodyBytesMax}\`
		error @too_large_for_${role} 413
		request_body {
			max_size ${bodyBytesMax}
		}
${proxy}	}
`
}
