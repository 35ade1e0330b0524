/** What this server asks of others outside, and has to do with other homeservers. */
import * as v from 'valibot'
import { ServerName } from '../../matrix/ids.ts'
import { addressRange, bytes, duration } from '../units.ts'
import { bool, port, text } from './values.ts'

export const egress = v.optional(
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
)

export const federation = v.optional(
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
)
