/** Base64 without padding, in both alphabets. https://spec.matrix.org/v1.19/appendices/#unpadded-base64 */

/** Standard alphabet, no `=`. */
export function encodeBase64(bytes: Uint8Array): string {
  return unpadded(asBuffer(bytes).toString('base64'))
}

/** URL-safe alphabet, no `=`. */
export function encodeBase64Url(bytes: Uint8Array): string {
  return asBuffer(bytes).toString('base64url')
}

/** Accepts either alphabet, with or without padding; undefined when `text` is not base64. */
export function decodeBase64(text: string): Buffer | undefined {
  const digits = unpadded(text)
  if (!/^[A-Za-z0-9+/_-]*$/.test(digits) || digits.length % 4 === 1) return undefined
  return Buffer.from(digits, 'base64')
}

/** Cuts off the `=` at the end. */
export function unpadded(base64: string): string {
  let end = base64.length
  while (end > 0 && base64.charCodeAt(end - 1) === 0x3d) end--
  return end === base64.length ? base64 : base64.slice(0, end)
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
