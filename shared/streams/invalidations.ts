import * as v from 'valibot'
import { missedInvalidations } from '../storage/stream-gaps.ts'
import { defineStream, StreamPosition } from './define.ts'

/** Tells caches to forget. `key` is a token's hash (base64url), a user id, a room id, `origin/media_id`, or a server's name, by cache. */
export const InvalidationRow = v.object({
  position: StreamPosition,
  cache: v.picklist([
    'access_token',
    'user_tokens',
    'profile',
    'push_rules',
    'room',
    'filter',
    'event',
    'media',
    'destination',
  ]),
  key: v.string(),
})
export type InvalidationRow = v.InferOutput<typeof InvalidationRow>

export const invalidations = defineStream({
  name: 'invalidations',
  row: InvalidationRow,
  kept: 'postgres',
  missed: missedInvalidations,
  wakes: () => [],
  spec: '',
})
