/** The configuration, declared once: parsing, the page of keys in `docs/` and the JSON schema follow from this.
 *  Every key has a default but `server_name`; durations are milliseconds and sizes bytes once parsed. */
import * as v from 'valibot'
import { ServerName } from '../matrix/ids.ts'
import { addressRange, bytes, duration, limit, secret } from './units.ts'

const bool = v.boolean()
const text = v.string()
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535))
const listener = v.object({
  port: v.pipe(port, v.description('TCP port; 0 for any free one.')),
  bind: v.optional(v.pipe(text, v.description('Address to listen on.')), '127.0.0.1'),
  tls_certificate_path: v.optional(
    v.pipe(text, v.description('PEM certificate chain; with tls_private_key_path this listener speaks TLS.')),
  ),
  tls_private_key_path: v.optional(v.pipe(text, v.description('PEM private key.'))),
})
const upstreams = (role: string) =>
  v.optional(
    v.pipe(
      v.array(v.pipe(text, v.regex(/^https?:\/\/[^/?#@\s]+\/?$/))),
      v.metadata({ expected: 'a list of URLs such as http://10.0.0.5:8008' }),
      v.description(`Handlers of the ${role} role. Without it, those that announce themselves in Redis.`),
    ),
  )

export const Config = v.object({
  server_name: v.pipe(
    ServerName,
    v.metadata({ expected: 'a host name such as example.org, with a port if it has one' }),
    v.description('The part of every user id and alias after the colon. It can never be changed.'),
  ),
  public_baseurl: v.optional(
    v.pipe(
      text,
      v.url(),
      v.metadata({ expected: 'a URL such as https://matrix.example.org' }),
      v.description('Where clients reach the server; announced in .well-known.'),
    ),
  ),
  data_dir: v.optional(v.pipe(text, v.description('Folder for keys and the embedded database.')), './data'),
  signing_key_path: v.optional(
    v.pipe(text, v.description('Ed25519 key file; made at the first start. Default: signing.key in data_dir.')),
  ),
  listeners: v.optional(v.pipe(v.array(listener), v.description('Where to listen.')), [{ port: 8008 }]),
  handler_url: v.optional(
    v.pipe(
      text,
      v.url(),
      v.metadata({ expected: 'a URL such as http://10.0.0.5:8008' }),
      v.description(
        'Where the edge and other handlers reach this handler. Default: its first listener; where that is on every address, at the first of this machine.',
      ),
    ),
  ),
  trusted_proxies: v.optional(
    v.pipe(v.array(text), v.description('Addresses or CIDR ranges whose X-Forwarded-For is believed.')),
    [],
  ),
  database: v.optional(
    v.object({
      url: v.optional(secret('postgres:// URL; without it an embedded PostgreSQL runs in data_dir.')),
      connections: v.optional(
        v.pipe(v.number(), v.integer(), v.minValue(2), v.description('Connections for reading.')),
        8,
      ),
      read_url: v.optional(
        secret(
          'postgres:// URL of a login that may only read, for handlers: grant it ganglion_reader. Default: url, taking that role on.',
        ),
      ),
      handler_connections: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(1),
          v.description('Connections of each handler, where roles run apart; idle ones are closed.'),
        ),
        4,
      ),
      prepare: v.optional(
        v.pipe(
          bool,
          v.description(
            'Prepared statements. Off for a pooler in transaction mode that does not keep them, such as PgBouncer before 1.21.',
          ),
        ),
        true,
      ),
      fsync: v.optional(
        v.pipe(
          bool,
          v.description('Embedded PostgreSQL only. Off: faster, and a crash of the machine loses data. For tests.'),
        ),
        true,
      ),
    }),
    {},
  ),
  commands: v.optional(
    v.object({
      secret: v.optional(secret('Secret by which handlers and mains know each other. All processes have the same.')),
      previous_secret: v.optional(
        secret(
          'A further secret that is taken. To change the secret: restart all processes with the new one here, then with the two exchanged, then without the old one.',
        ),
      ),
      timeout: v.optional(
        duration(
          'How long a handler tries to have a command carried out, through crashes and moves, before it gives up.',
        ),
        '20s',
      ),
      listen: v.optional(
        v.object({
          port: v.optional(v.pipe(port, v.description('TCP port where main takes commands; 0 for any free one.')), 0),
          bind: v.optional(v.pipe(text, v.description('Address where main takes commands.')), '127.0.0.1'),
          path: v.optional(
            v.pipe(
              text,
              v.description(
                'Unix socket in place of the port, for processes on one machine; {id} stands for the id of the main.',
              ),
            ),
          ),
        }),
        {},
      ),
      url: v.optional(
        v.pipe(
          text,
          v.regex(/^http:\/\/[^/?#@\s]+\/?$/),
          v.metadata({ expected: 'a URL such as http://10.0.0.5:8009' }),
          v.description('Where handlers reach this main. Default: from `listen`, or the name of the machine.'),
        ),
      ),
      queue: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(1),
          v.description('Commands under way in one main; further ones are refused with 503 until some have ended.'),
        ),
        4000,
      ),
      queue_per_room: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(1),
          v.description('Commands waiting for one room; further ones are refused with 429 until some have ended.'),
        ),
        500,
      ),
    }),
    {},
  ),
  main: v.optional(
    v.object({
      standby: v.optional(
        v.pipe(
          bool,
          v.description(
            'Another main writes while one lives that is no standby; this one takes over when there is none.',
          ),
        ),
        false,
      ),
    }),
    {},
  ),
  edge: v.optional(
    v.object({
      listeners: v.optional(
        v.pipe(v.array(listener), v.description('Where the edge listens, if not where `listeners` says.')),
      ),
      upstreams: v.optional(
        v.object({
          sync: upstreams('sync'),
          client: upstreams('client'),
          federation: upstreams('federation'),
          media: upstreams('media'),
        }),
        {},
      ),
      body_limits: v.optional(
        v.object({
          sync: v.optional(bytes('Largest request body that is passed on to the sync role.'), '1M'),
          client: v.optional(bytes('Largest request body that is passed on to the client role.'), '12M'),
          federation: v.optional(bytes('Largest request body that is passed on to the federation role.'), '12M'),
          media: v.optional(bytes('Largest request body that is passed on to the media role.'), '100M'),
        }),
        {},
      ),
    }),
    {},
  ),
  redis: v.optional(
    v.object({
      url: v.optional(
        secret(
          'Redis, which lets several processes serve together; without it, one process does everything. redis://, rediss://, redis+unix://, redis+sentinel://host,host/master-name, redis+cluster://host,host, or https:// for the Upstash REST API.',
        ),
      ),
      token: v.optional(secret('Token of the REST API, for https://.')),
      prefix: v.optional(
        v.pipe(
          text,
          v.regex(/^[a-z0-9._-]{1,64}$/),
          v.metadata({ expected: 'up to 64 of a-z, 0-9, ".", "_" and "-"' }),
          v.description('What all keys and channels begin with: installations that share a Redis need one each.'),
        ),
        'ganglion',
      ),
      tls_ca_path: v.optional(
        v.pipe(text, v.description('PEM certificates that vouch for a rediss:// server, beside the usual ones.')),
      ),
    }),
    {},
  ),
  support: v.optional(
    v.pipe(
      v.object({
        contacts: v.optional(
          v.array(
            v.object({
              role: v.pipe(text, v.description('m.role.admin, m.role.security, or a role of your own.')),
              email_address: v.optional(v.pipe(text, v.description('Email address of the contact.'))),
              matrix_id: v.optional(v.pipe(text, v.description('Matrix user id of the contact.'))),
            }),
          ),
        ),
        support_page: v.optional(v.pipe(text, v.url(), v.description('Page with help for users.'))),
      }),
      v.description('Announced in .well-known/matrix/support.'),
    ),
  ),
  registration: v.optional(
    v.object({
      enabled: v.optional(v.pipe(bool, v.description('Anyone may register.')), false),
      guests: v.optional(v.pipe(bool, v.description('Guests may register.')), false),
      shared_secret: v.optional(secret('Secret for the shared-secret registration API; without it that API is off.')),
    }),
    {},
  ),
  password: v.optional(
    v.object({
      enabled: v.optional(v.pipe(bool, v.description('Login by password.')), true),
      bcrypt_rounds: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(4),
          v.maxValue(20),
          v.description('Cost of a password hash, as a power of two.'),
        ),
        12,
      ),
      minimum_length: v.optional(
        v.pipe(v.number(), v.integer(), v.minValue(1), v.description('Shortest password accepted, in characters.')),
        8,
      ),
    }),
    {},
  ),
  sessions: v.optional(
    v.object({
      access_token_lifetime: v.optional(duration('Lifetime of access tokens of sessions that can refresh.'), '5m'),
      refresh_token_lifetime: v.optional(
        duration('How long a refresh token stays valid unused; without it, for ever.'),
      ),
    }),
    {},
  ),
  rooms: v.optional(
    v.object({
      default_version: v.optional(
        v.pipe(
          v.picklist(['1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12']),
          v.description('Version of new rooms.'),
        ),
        '12',
      ),
      publish_public: v.optional(
        v.pipe(bool, v.description('Users may list their rooms in the room directory.')),
        true,
      ),
      public_list_without_login: v.optional(
        v.pipe(bool, v.description('The room directory can be read without an account.')),
        true,
      ),
    }),
    {},
  ),
  server_notices: v.optional(
    v.object({
      localpart: v.optional(
        v.pipe(
          v.string(),
          v.regex(/^_[a-z0-9._=\-/+]{0,100}$/, 'expected _ and then a-z, 0-9, ._=-/+'),
          v.description(
            'Of the account that messages of the server come from. It begins with _: nobody can register that.',
          ),
        ),
        '_server',
      ),
      display_name: v.optional(v.pipe(v.string(), v.minLength(1), v.description('The name it has.')), 'Server notices'),
      avatar_url: v.optional(v.pipe(v.string(), v.startsWith('mxc://'), v.description('mxc:// URI of its picture.'))),
      room_name: v.optional(
        v.pipe(v.string(), v.minLength(1), v.description('Name of the rooms it writes in.')),
        'Server notices',
      ),
    }),
    {},
  ),
  presence: v.optional(v.object({ enabled: v.optional(v.pipe(bool, v.description('Tell who is online.')), true) }), {}),
  user_directory: v.optional(
    v.object({
      enabled: v.optional(v.pipe(bool, v.description('Users can search for others by name.')), true),
      search_all_users: v.optional(
        v.pipe(
          bool,
          v.description(
            'Everybody on this server is found by everybody on it; otherwise who is in a public room, or shares a room.',
          ),
        ),
        false,
      ),
    }),
    {},
  ),
  turn: v.optional(
    v.object({
      uris: v.optional(
        v.pipe(
          v.array(v.pipe(text, v.regex(/^turns?:\S+$/))),
          v.metadata({ expected: 'a list such as [turn:turn.example.org?transport=udp]' }),
          v.description('TURN servers that clients are told of for calls; without them there are none.'),
        ),
        [],
      ),
      shared_secret: v.optional(
        secret('Secret that the TURN servers share, by which credentials are made for each user.'),
      ),
      username: v.optional(v.pipe(text, v.description('User name for all, where the TURN servers share no secret.'))),
      password: v.optional(secret('Password that goes with username.')),
      user_lifetime: v.optional(duration('How long the credentials of a user are good.'), '1h'),
      allow_guests: v.optional(v.pipe(bool, v.description('Guests get credentials too.')), true),
    }),
    {},
  ),
  egress: v.optional(
    v.object({
      allowed_ranges: v.optional(
        v.pipe(
          v.array(addressRange()),
          v.description(
            'Addresses and CIDR ranges that requests to the outside may go to although they are private or otherwise special.',
          ),
        ),
        [],
      ),
      denied_ranges: v.optional(
        v.pipe(
          v.array(addressRange()),
          v.description(
            'Addresses and CIDR ranges that they may not go to, beside the private and special ones. Where one of allowed_ranges holds an address too, the narrower of both counts.',
          ),
        ),
        [],
      ),
      ports: v.optional(
        v.pipe(v.array(port), v.description('The only ports that they may go to; with none listed, any.')),
        [],
      ),
      connections: v.optional(
        v.pipe(v.number(), v.integer(), v.minValue(1), v.description('Requests under way at a time, of each process.')),
        256,
      ),
      connections_per_host: v.optional(
        v.pipe(v.number(), v.integer(), v.minValue(1), v.description('The same to one host; others wait their turn.')),
        8,
      ),
      connect_timeout: v.optional(duration('How long a connection may take to come about, TLS included.'), '10s'),
      first_byte_timeout: v.optional(duration('How long an answer may take to begin.'), '30s'),
      idle_timeout: v.optional(duration('How long an answer may pause.'), '15s'),
      total_timeout: v.optional(duration('How long a request may take in all.'), '60s'),
      body_bytes_max: v.optional(bytes('Largest answer where nothing else is said, also after decompression.'), '10M'),
    }),
    {},
  ),
  federation: v.optional(
    v.object({
      enabled: v.optional(v.pipe(bool, v.description('Have to do with other homeservers at all.')), true),
      allowed_servers: v.optional(
        v.pipe(
          v.array(text),
          v.description(
            'The only servers to have to do with, `*` and `?` stand for others’ characters; without it, all.',
          ),
        ),
      ),
      denied_servers: v.optional(
        v.pipe(v.array(text), v.description('Servers to have nothing to do with, in the same form.')),
        [],
      ),
      trusted_key_servers: v.optional(
        v.pipe(
          v.array(ServerName),
          v.metadata({ expected: 'a list of server names' }),
          v.description('Notaries that are asked for the keys of servers that do not answer themselves.'),
        ),
        [],
      ),
      delegate_to: v.optional(
        v.pipe(
          ServerName,
          v.metadata({ expected: 'a host name such as matrix.example.org:443, with a port if it is not 8448' }),
          v.description(
            'Where other servers reach this one, where that is not at server_name; announced in .well-known/matrix/server.',
          ),
        ),
      ),
      old_signing_keys: v.optional(
        v.pipe(
          v.array(
            v.object({
              key_id: v.pipe(
                text,
                v.regex(/^ed25519:\w{1,200}$/),
                v.metadata({ expected: 'an id such as ed25519:a_1234' }),
                v.description('The id that it had.'),
              ),
              key: v.pipe(text, v.description('Public key, in base64.')),
              expired_ts: v.pipe(
                v.number(),
                v.integer(),
                v.description('When it last signed, in milliseconds since 1970.'),
              ),
            }),
          ),
          v.description('Keys that this server signed with before: others check its old events by them.'),
        ),
        [],
      ),
      ca_path: v.optional(
        v.pipe(text, v.description('PEM certificates that vouch for other servers, beside the usual ones.')),
      ),
    }),
    {},
  ),
  limits: v.optional(
    v.object({
      request_body: v.optional(bytes('Largest request body of ordinary endpoints.'), '256K'),
      sync_cache: v.optional(bytes('Memory for ready-made timelines of rooms.'), '32M'),
      warm_rooms: v.optional(bytes('Memory for rooms held warm by the writer.'), '64M'),
    }),
    {},
  ),
  rate_limits: v.optional(
    v.object({
      enabled: v.optional(v.pipe(bool, v.description('Whether rate limits apply at all.')), true),
      message: limit('Messages and state sent, by user', { per_second: 10, burst: 50 }),
      registration: limit('Registrations, by address', { per_second: 0.17, burst: 5 }),
      login: limit('Logins, by address and by account', { per_second: 0.17, burst: 10 }),
      joins: limit('Joins and knocks, by user', { per_second: 0.3, burst: 10 }),
      invites: limit('Invites, by inviting user', { per_second: 0.3, burst: 10 }),
      room_creation: limit('New rooms, by user', { per_second: 0.1, burst: 10 }),
      account: limit('Changes of account, profile and devices, by user', { per_second: 5, burst: 30 }),
      read: limit('Costly reads, by user', { per_second: 50, burst: 200 }),
      federation: limit('Requests of other servers, by server', { per_second: 100, burst: 1000 }),
    }),
    {},
  ),
  metrics: v.optional(
    v.object({
      listen: v.optional(
        v.pipe(
          v.object({
            port: v.pipe(port, v.description('TCP port; 0 for any free one.')),
            bind: v.optional(v.pipe(text, v.description('Address to listen on.')), '127.0.0.1'),
          }),
          v.description('Where each process serves Prometheus metrics at /metrics; without it there are none.'),
        ),
      ),
    }),
    {},
  ),
  tracing: v.optional(
    v.object({
      otlp_url: v.optional(
        v.pipe(
          text,
          v.url(),
          v.metadata({ expected: 'a URL such as http://127.0.0.1:4318' }),
          v.description(
            'Collector that takes OpenTelemetry traces by OTLP over HTTP (JSON), at /v1/traces below this URL; without it nothing is traced.',
          ),
        ),
      ),
      sample_ratio: v.optional(
        v.pipe(
          v.number(),
          v.minValue(0),
          v.maxValue(1),
          v.description('Share of the traces that begin here which is recorded; 1 for all.'),
        ),
        1,
      ),
    }),
    {},
  ),
  log: v.optional(
    v.object({
      level: v.optional(
        v.pipe(v.picklist(['trace', 'debug', 'info', 'warn', 'error']), v.description('Least level that is logged.')),
        'info',
      ),
      format: v.optional(
        v.pipe(v.picklist(['json', 'pretty']), v.description('JSON lines, or text for people.')),
        'json',
      ),
    }),
    {},
  ),
})
export type Config = v.InferOutput<typeof Config>
