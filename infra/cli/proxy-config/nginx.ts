import { roles } from '../../../shared/http/route-table.ts'
import {
  addressesOf,
  answerSeconds,
  generatedNote,
  type PathRule,
  type ProxySettings,
  pathRules,
  proxyErrorStatuses,
  proxyErrors,
  roomPatterns,
} from './rules.ts'

/** For the `http` block: save it in conf.d/. */
export function nginxConfig(settings: ProxySettings): string {
  const { handlers, port, bodyBytesMax } = settings
  const ordinaryBytes = Math.max(...roles.filter((role) => role !== 'media').map((role) => bodyBytesMax[role]))
  return `# ${generatedNote}
# Goes into the http block: save it as /etc/nginx/conf.d/ganglion.conf and add \`listen 443 ssl\` with a certificate.

# The raw request line decides, so that an encoded slash stays what it is.
map "$request_method $request_uri" $ganglion_role {
    default "";
${pathRules().map(ruleLine).join('')}}

# What the caches of handlers go by; a hint that changes no answer.
map $request_uri $ganglion_room {
    default "";
${roomPatterns()
  .map((pattern) => `    "~${quoted(pattern)}" $1;\n`)
  .join('')}}
map $http_authorization $ganglion_user {
    default $http_authorization;
    "~^Bearer g[ar]t_(?<tag>[0-9a-f]+)_" $tag;
    "~*^X-Matrix .*origin=\\"?(?<origin>[^\\",]+)" $origin;
    "" $request_id;
}
map $ganglion_room $ganglion_key {
    default $ganglion_room;
    "" $ganglion_user;
}

${roles.map((role) => upstream(role, handlers[role], role === 'media' ? undefined : role === 'client' ? '$ganglion_key' : '$ganglion_user')).join('\n')}
server {
    listen ${port};
    server_name _;
    # Access tokens may be in the query.
    access_log off;
    large_client_header_buffers 8 32k;
    client_max_body_size ${ordinaryBytes};
    client_body_buffer_size 256k;
    keepalive_timeout 75s;

    proxy_http_version 1.1;
    proxy_connect_timeout 3s;
    proxy_read_timeout ${answerSeconds}s;
    proxy_send_timeout 120s;
    # Answers are passed on as they come, and never wait on a disk.
    proxy_buffering off;
    proxy_next_upstream error timeout;
    proxy_next_upstream_tries 3;

    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    # Only what this proxy saw itself. Behind another one, set_real_ip_from makes $remote_addr the client's address.
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Request-Id $request_id;
    proxy_set_header X-Real-IP "";
    proxy_set_header Forwarded "";
    proxy_set_header X-Ganglion-Forwarded "";

${proxyErrorStatuses.map((status) => `    error_page ${status} @ganglion_${status};\n`).join('')}
    location / {
        if ($ganglion_role = "") {
            return 404;
        }
        proxy_pass http://ganglion_$ganglion_role$request_uri;
    }
    location /_matrix/media/ {
        # Uploads go on as they come.
        client_max_body_size ${bodyBytesMax.media};
        proxy_request_buffering off;
        proxy_pass http://ganglion_$ganglion_role$request_uri;
    }

${proxyErrorStatuses.map(errorLocation).join('')}}
`
}

function ruleLine({ pattern, role, methods }: PathRule): string {
  const method = methods ? `(?:${methods.join('|')})` : '[A-Z]+'
  return `    "~^${method} ${quoted(pattern.slice(1))}" ${role};\n`
}

/** In a quoted string of nginx a backslash stands for itself unless a quote or another one follows. */
function quoted(pattern: string): string {
  return pattern.replaceAll('"', '\\"')
}

function upstream(role: string, urls: readonly string[], key: string | undefined): string {
  const servers = addressesOf(urls).map(({ address }) => `    server ${address} max_fails=1 fail_timeout=2s;\n`)
  // A role without a handler is answered as one that is away.
  const lines = servers.length > 0 ? servers.join('') : '    server 127.0.0.1:9 down;\n'
  const balance = key === undefined ? 'least_conn' : `hash ${key} consistent`
  return `upstream ganglion_${role} {\n    ${balance};\n${lines}    keepalive 128;\n}\n`
}

function errorLocation(status: (typeof proxyErrorStatuses)[number]): string {
  return `    location @ganglion_${status} {
        internal;
        default_type application/json;
        add_header Access-Control-Allow-Origin "*" always;
        add_header Access-Control-Allow-Methods "GET, POST, PUT, DELETE, OPTIONS" always;
        add_header Access-Control-Allow-Headers "X-Requested-With, Content-Type, Authorization" always;
${status >= 502 ? '        add_header Retry-After "2" always;\n' : ''}        return ${status} '${JSON.stringify(proxyErrors[status])}';
    }
`
}
