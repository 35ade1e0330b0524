/** The configuration, declared once: parsing, the page of keys in `docs/` and the JSON schema follow from this.
 *  Every key has a default but `server_name`; durations are milliseconds and sizes bytes once parsed. */
import * as v from 'valibot'
import { ServerName } from '../matrix/ids.ts'
import { addressRange, bytes, duration, limit, secret } from './units.ts'

const bool = v.boolean()
const text = v.string()
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535))
const count = v.pipe(v.number(), v.integer(), v.minValue(1))
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
      requires_token: v.optional(
        v.pipe(bool, v.description('Who registers needs a registration token, which administrators give out.')),
        false,
      ),
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
  delayed_events: v.optional(
    v.object({
      max_delay: v.optional(duration('The longest delay that an event may be scheduled with.'), '1d'),
      max_per_user: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(0),
          v.maxValue(1000),
          v.description('Events that a user may have scheduled at a time; 0 turns delayed events off.'),
        ),
        100,
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
  url_previews: v.optional(
    v.object({
      enabled: v.optional(
        v.pipe(
          bool,
          v.description('Pages that users ask about are fetched, within the rules of `egress`, for previews.'),
        ),
        true,
      ),
      denied_urls: v.optional(
        v.pipe(
          v.array(
            v.object({
              scheme: v.optional(v.pipe(text, v.description('http or https.'))),
              host: v.optional(v.pipe(text, v.description('The host name, in lower case.'))),
              port: v.optional(v.pipe(text, v.description('The port, also where the URL leaves it out.'))),
              path: v.optional(v.pipe(text, v.description('The path, from its first slash.'))),
              query: v.optional(v.pipe(text, v.description('What comes after the question mark.'))),
            }),
          ),
          v.description(
            'URLs that are not previewed: those that match all patterns of one of these. A pattern has * and ?; one that begins with ^ is a regular expression (RE2).',
          ),
        ),
        [],
      ),
      page_bytes_max: v.optional(bytes('So much of a page is read.'), '1M'),
      image_bytes_max: v.optional(bytes('Larger pictures are left out.'), '10M'),
      timeout: v.optional(duration('How long making a preview may take.'), '20s'),
      cache_lifetime: v.optional(duration('How long a preview is kept and given again.'), '1h'),
      accept_language: v.optional(
        v.pipe(text, v.description('The Accept-Language that pages are asked with.')),
        'en;q=0.9, *;q=0.5',
      ),
      forward_language: v.optional(
        v.pipe(bool, v.description("Ask pages with the user's own Accept-Language, and keep a preview for each.")),
        false,
      ),
      oembed_providers: v.optional(
        v.pipe(
          v.array(
            v.object({
              endpoint: v.pipe(
                text,
                v.url(),
                v.metadata({ expected: 'a URL such as https://example.org/oembed' }),
                v.description('Where the provider answers in JSON.'),
              ),
              urls: v.pipe(v.array(text), v.description('The URLs that it knows, with * and ?.')),
            }),
          ),
          v.description('Sites that are asked by oEmbed in place of reading their pages.'),
        ),
        [],
      ),
    }),
    {},
  ),
  thumbnails: v.optional(
    v.object({
      sizes: v.optional(
        v.pipe(
          v.array(
            v.object({
              width: v.pipe(count, v.maxValue(4096), v.description('In pixels.')),
              height: v.pipe(count, v.maxValue(4096), v.description('In pixels.')),
              method: v.pipe(
                v.picklist(['crop', 'scale']),
                v.description('crop: the middle in these proportions; scale: all of it, within this size.'),
              ),
            }),
          ),
          v.minLength(1),
          v.description('The sizes that thumbnails are made in; who asks for another one gets the next larger.'),
        ),
        [
          { width: 32, height: 32, method: 'crop' },
          { width: 96, height: 96, method: 'crop' },
          { width: 320, height: 240, method: 'scale' },
          { width: 640, height: 480, method: 'scale' },
          { width: 800, height: 600, method: 'scale' },
        ],
      ),
      dynamic: v.optional(
        v.pipe(bool, v.description('Thumbnails in the size that was asked for, rounded up to multiples of 32.')),
        false,
      ),
      dynamic_max: v.optional(
        v.pipe(count, v.maxValue(4096), v.description('Longest side of those, in pixels.')),
        1600,
      ),
      source_bytes_max: v.optional(bytes('Larger files get no thumbnails.'), '32M'),
      pixels_max: v.optional(
        v.pipe(count, v.description('Images with more pixels, all frames taken together, are not decoded.')),
        64_000_000,
      ),
      frames_max: v.optional(
        v.pipe(count, v.description('Of animations with more frames there are only still thumbnails.')),
        300,
      ),
      timeout: v.optional(duration('How long one thumbnail may take.'), '10s'),
      memory: v.optional(bytes('Memory that the process which decodes may take.'), '512M'),
      concurrency: v.optional(
        v.pipe(count, v.maxValue(64), v.description('Thumbnails made at a time, each by a process of its own.')),
        2,
      ),
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
  media: v.optional(
    v.object({
      folder: v.optional(
        v.pipe(
          text,
          v.description(
            'Folder of the media, where they are not in an object store; mains and media handlers need the same one. Default: media in data_dir.',
          ),
        ),
      ),
      s3: v.optional(
        v.object({
          endpoint: v.pipe(
            text,
            v.regex(/^https?:\/\/[^/?#@\s]+\/?$/),
            v.metadata({ expected: 'a URL such as https://s3.example.org' }),
            v.description('Object store that speaks the S3 API; without this section media are in `folder`.'),
          ),
          bucket: v.pipe(text, v.regex(/^[A-Za-z0-9._-]{1,255}$/), v.description('Bucket; it has to exist.')),
          prefix: v.optional(
            v.pipe(
              text,
              v.regex(/^(?:[A-Za-z0-9._-]+\/)*$/),
              v.metadata({ expected: 'empty, or names that each end with "/"' }),
              v.description('What the names of all objects begin with, such as media/.'),
            ),
            '',
          ),
          region: v.optional(v.pipe(text, v.description('Region by which requests are signed.')), 'us-east-1'),
          access_key_id: secret('Access key that may read, write, delete and list in the bucket.'),
          secret_access_key: secret('Secret of the access key.'),
          part_size: v.optional(
            bytes('Larger bodies are stored in parts of this size, at least 5M; an upload holds one in memory.'),
            '8M',
          ),
          redirect: v.optional(
            v.pipe(
              bool,
              v.description(
                'Clients that allow it are sent to the store for downloads, by a URL that is good for a few minutes.',
              ),
            ),
            false,
          ),
        }),
      ),
      max_upload_size: v.optional(
        bytes('Largest upload; the edge, and proxies before it, have limits of their own.'),
        '100M',
      ),
      freeze_unauthenticated: v.optional(
        v.pipe(
          bool,
          v.description(
            'What is uploaded from now on is not served by the old endpoints, which ask for no access token; what was there before still is.',
          ),
        ),
        true,
      ),
      unused_expiry: v.optional(duration('How long an mxc:// URI that was made ahead waits for its upload.'), '24h'),
      pending_per_user: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(1),
          v.description('mxc:// URIs that a user may have waiting for their upload.'),
        ),
        20,
      ),
      user_quota: v.optional(
        bytes('What a user may have uploaded in all, or within user_quota_period; without it, any amount.'),
      ),
      user_quota_period: v.optional(
        duration('user_quota is for what was uploaded within this time; without it, for all that is there.'),
      ),
      disk_budget: v.optional(
        bytes(
          'Bytes that media may take up in all. Where there is no room, what others can give again and previews are dropped, those least used first; then uploads are refused.',
        ),
      ),
      disk_budget_drops_local: v.optional(
        v.pipe(bool, v.description("For room in the disk budget, users' own uploads are dropped too, as the last.")),
        false,
      ),
      retention: v.optional(
        v.object({
          local: v.optional(duration('Uploads that nobody fetched for this long are deleted; without it, none.')),
          remote: v.optional(
            duration(
              'Media of other servers, and pictures of previews, that nobody fetched for this long are deleted.',
            ),
            '90d',
          ),
        }),
        {},
      ),
      scanner: v.optional(
        v.object({
          url: v.pipe(
            text,
            v.url(),
            v.metadata({ expected: 'a URL such as http://127.0.0.1:9000/scan' }),
            v.description(
              'Is sent each upload by POST, before anybody can fetch it, and answers with {"clean": true} or {"clean": false}.',
            ),
          ),
          token: v.optional(secret('Sent to the scanner as a bearer token.')),
          timeout: v.optional(duration('How long the scanner may take.'), '30s'),
          when_down: v.optional(
            v.pipe(
              v.picklist(['refuse', 'accept']),
              v.description('What becomes of uploads while the scanner does not answer.'),
            ),
            'refuse',
          ),
        }),
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
      url_preview: limit('Previews of URLs, by user', { per_second: 2, burst: 50 }),
      media_upload: limit('Uploads, by user', { per_second: 5, burst: 50 }),
      media_download: limit('Downloads and thumbnails, by user or address', { per_second: 100, burst: 1000 }),
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
