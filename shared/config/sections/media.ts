/** Content that users upload and refer to. */
import * as v from 'valibot'
import { bytes, duration, secret } from '../units.ts'
import { bool, count, text } from './values.ts'

export const url_previews = v.optional(
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
)

export const thumbnails = v.optional(
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
    dynamic_max: v.optional(v.pipe(count, v.maxValue(4096), v.description('Longest side of those, in pixels.')), 1600),
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
)

export const media = v.optional(
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
          duration('Media of other servers, and pictures of previews, that nobody fetched for this long are deleted.'),
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
)
