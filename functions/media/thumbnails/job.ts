/** What goes to the process that decodes, and what comes back. */
import * as v from 'valibot'

const Bytes = v.custom<Uint8Array>((value) => value instanceof Uint8Array)
const Size = v.object({ width: v.number(), height: v.number(), method: v.picklist(['crop', 'scale']) })

export const ThumbnailJob = v.object({
  source: Bytes,
  /** What sharp calls the type that the first bytes say. */
  format: v.picklist(['jpeg', 'png', 'gif', 'webp', 'heif']),
  size: Size,
  /** 1 for a still picture. */
  frames: v.number(),
  pixelsMax: v.number(),
})
export type ThumbnailJob = v.InferOutput<typeof ThumbnailJob>

export const Thumbnail = v.object({
  bytes: Bytes,
  content_type: v.picklist(['image/jpeg', 'image/png', 'image/webp']),
  width: v.number(),
  height: v.number(),
})
export type Thumbnail = v.InferOutput<typeof Thumbnail>

/** `undefined`: it can't be decoded. */
export const ThumbnailResult = v.object({ thumbnail: v.optional(Thumbnail) })
