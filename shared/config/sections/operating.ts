/** Bounds, and what every process tells of itself. */
import * as v from 'valibot'
import { bytes, limit } from '../units.ts'
import { bool, port, text } from './values.ts'

export const limits = v.optional(
  v.object({
    request_body: v.optional(bytes('Largest request body of ordinary endpoints.'), '256K'),
    sync_cache: v.optional(bytes('Memory for ready-made timelines of rooms.'), '32M'),
    warm_rooms: v.optional(bytes('Memory for rooms held warm by the writer.'), '64M'),
  }),
  {},
)

export const rate_limits = v.optional(
  v.object({
    enabled: v.optional(v.pipe(bool, v.description('Whether rate limits apply at all.')), true),
    message: limit('Messages and state sent, by user', { per_second: 10, burst: 50 }),
    registration: limit('Registrations, by address', { per_second: 0.17, burst: 5 }),
    login: limit('Logins, by address and by account', { per_second: 0.17, burst: 10 }),
    joins: limit('Joins and knocks, by user', { per_second: 0.3, burst: 10 }),
    invites: limit('Invites, by inviting user', { per_second: 0.3, burst: 10 }),
    room_creation: limit('New rooms, by user', { per_second: 0.1, burst: 10 }),
    threepid_validation: limit('Mails and short messages asked for, by address of the user and by where they go', {
      per_second: 0.003,
      burst: 5,
    }),
    account: limit('Changes of account, profile and devices, by user', { per_second: 5, burst: 30 }),
    read: limit('Costly reads, by user', { per_second: 50, burst: 200 }),
    url_preview: limit('Previews of URLs, by user', { per_second: 2, burst: 50 }),
    media_upload: limit('Uploads, by user', { per_second: 5, burst: 50 }),
    media_download: limit('Downloads and thumbnails, by user or address', { per_second: 100, burst: 1000 }),
    federation: limit('Requests of other servers, by server', { per_second: 100, burst: 1000 }),
  }),
  {},
)

export const metrics = v.optional(
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
)

export const tracing = v.optional(
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
)

export const log = v.optional(
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
)
