/** Commands on previews of URLs. https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url */
import * as v from 'valibot'
import { defineCommand } from './define.ts'

/** Of the URL and of the language it is asked in: a hash, so that the table tells nobody what users read. */
export const UrlPreviewKey = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/), v.brand('UrlPreviewKey'))
export type UrlPreviewKey = v.InferOutput<typeof UrlPreviewKey>

export const urlPreviewCommands = {
  /** Who asks first makes the preview, until its claim is over; the others wait for what it stores. */
  claimUrlPreview: defineCommand({
    name: 'claimUrlPreview',
    request: v.object({
      key: UrlPreviewKey,
      /** Made up by who asks, the same each time it is sent. */
      claim: v.string(),
      lifetime_ms: v.pipe(v.number(), v.integer(), v.minValue(0)),
    }),
    response: v.object({ claimed: v.boolean() }),
    shard: () => undefined,
    repetition: 'harmless',
  }),
  /** Ends the claim. What was stored under a claim that is over is left out. */
  storeUrlPreview: defineCommand({
    name: 'storeUrlPreview',
    request: v.object({
      key: UrlPreviewKey,
      claim: v.string(),
      /** JSON. */
      answer: v.string(),
      lifetime_ms: v.pipe(v.number(), v.integer(), v.minValue(0)),
    }),
    response: v.object({}),
    shard: () => undefined,
    repetition: 'harmless',
  }),
} as const
