/** The processes of an installation, and what they stand on. */
import * as v from 'valibot'
import { bytes, duration, secret } from '../units.ts'
import { bool, listener, port, text } from './values.ts'

const upstreams = (role: string) =>
  v.optional(
    v.pipe(
      v.array(v.pipe(text, v.regex(/^https?:\/\/[^/?#@\s]+\/?$/))),
      v.metadata({ expected: 'a list of URLs such as http://10.0.0.5:8008' }),
      v.description(`Handlers of the ${role} role. Without it, those that announce themselves in Redis.`),
    ),
  )

export const database = v.optional(
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
)

export const commands = v.optional(
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
)

export const main = v.optional(
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
    sends_to_servers: v.optional(
      v.pipe(
        bool,
        v.description(
          'Send to other servers from this main. Where several mains run, those that do send for those that do not.',
        ),
      ),
      true,
    ),
  }),
  {},
)

export const edge = v.optional(
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
)

export const redis = v.optional(
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
)
