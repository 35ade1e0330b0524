/** The configuration, declared once: parsing, the page of keys in `docs/` and the JSON schema follow from this.
 *  Every key has a default but `server_name`; durations are milliseconds and sizes bytes once parsed. */
import * as v from 'valibot'
import { ServerName } from '../matrix/ids.ts'
import {
  account_validity,
  email,
  password,
  policies,
  profile_fields,
  registration,
  sessions,
  sms,
  threepid_validation,
  threepids,
} from './sections/accounts.ts'
import { media, thumbnails, url_previews } from './sections/media.ts'
import { limits, log, metrics, rate_limits, tracing } from './sections/operating.ts'
import { egress, federation } from './sections/outside.ts'
import { commands, database, edge, main, redis } from './sections/processes.ts'
import { bool, listener, text } from './sections/values.ts'
import { duration, secret } from './units.ts'

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
  database,
  commands,
  main,
  edge,
  redis,
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
  registration,
  threepids,
  email,
  sms,
  threepid_validation,
  policies,
  account_validity,
  profile_fields,
  password,
  sessions,
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
  url_previews,
  thumbnails,
  egress,
  media,
  federation,
  limits,
  rate_limits,
  metrics,
  tracing,
  log,
})
export type Config = v.InferOutput<typeof Config>
