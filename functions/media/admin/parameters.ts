/** Parameters of administration, as Synapse's tools send them. */
import * as v from 'valibot'

const digits = v.pipe(v.string(), v.regex(/^\d{1,15}$/), v.transform(Number))

/** Of a page, and of an answer's list. */
export const pageMax = 1_000

export const optionalNumber = v.optional(digits)
export const pageQuery = {
  from: v.optional(digits, '0'),
  limit: v.optional(
    v.pipe(
      digits,
      v.transform((limit) => Math.min(limit, pageMax)),
    ),
    '100',
  ),
  dir: v.optional(v.picklist(['f', 'b'])),
}

/** Numbers too, which tools send in JSON as such or in the query as text. */
export const timestamp = digits
