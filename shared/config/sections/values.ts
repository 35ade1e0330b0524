/** Values that several sections have. */
import * as v from 'valibot'

export const bool = v.boolean()
export const text = v.string()
export const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535))
/** One at least. */
export const count = v.pipe(v.number(), v.integer(), v.minValue(1))
export const listener = v.object({
  port: v.pipe(port, v.description('TCP port; 0 for any free one.')),
  bind: v.optional(v.pipe(text, v.description('Address to listen on.')), '127.0.0.1'),
  tls_certificate_path: v.optional(
    v.pipe(text, v.description('PEM certificate chain; with tls_private_key_path this listener speaks TLS.')),
  ),
  tls_private_key_path: v.optional(v.pipe(text, v.description('PEM private key.'))),
})
