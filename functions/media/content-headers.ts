/** What is said of content, to be safe in a browser whatever it is. https://spec.matrix.org/v1.19/client-server-api/#serving-inline-content */

/** Shown in place; everything else is only ever saved. */
const inlineTypes: ReadonlySet<string> = new Set([
  'text/css',
  'text/plain',
  'text/csv',
  'application/json',
  'application/ld+json',
  'image/jpeg',
  'image/gif',
  'image/png',
  'image/apng',
  'image/webp',
  'image/avif',
  'video/mp4',
  'video/webm',
  'video/ogg',
  'video/quicktime',
  'audio/mp4',
  'audio/webm',
  'audio/aac',
  'audio/mpeg',
  'audio/ogg',
  'audio/wave',
  'audio/wav',
  'audio/x-wav',
  'audio/x-pn-wav',
  'audio/flac',
  'audio/x-flac',
])

const unknownType = 'application/octet-stream'
const typeLengthMax = 255
const nameLengthMax = 255
/** https://www.rfc-editor.org/rfc/rfc9110#section-8.3.1 */
const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
const contentType = new RegExp(`^${token}/${token}(?:[ \\t]*;[ \\t]*${token}=(?:${token}|"[ !#-\\[\\]-~]*"))*$`)

/** As it may go into a header: what is no content type is of no known type. */
export function safeContentType(given: string | undefined): string {
  const text = given?.trim() ?? ''
  return text.length <= typeLengthMax && contentType.test(text) ? text : unknownType
}

/** As it may be kept: without control characters and what separates folders, and not too long. Undefined for nothing. */
export function safeFileName(given: string | undefined): string | undefined {
  const text = (given ?? '')
    .toWellFormed()
    .replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, '')
    .replace(/[/\\]/g, '_')
    .slice(0, nameLengthMax)
    .toWellFormed()
  return text === '' ? undefined : text
}

function isInline(type: string): boolean {
  const [essence = ''] = type.split(';')
  return inlineTypes.has(essence.trim().toLowerCase())
}

/** https://www.rfc-editor.org/rfc/rfc6266#section-4.1 */
export function contentDisposition(type: string, name: string | undefined): string {
  const disposition = isInline(type) ? 'inline' : 'attachment'
  if (name === undefined) return disposition
  if (/^[ !#-[\]-~]*$/.test(name)) {
    return new RegExp(`^${token}$`).test(name)
      ? `${disposition}; filename=${name}`
      : `${disposition}; filename="${name}"`
  }
  return `${disposition}; filename*=utf-8''${extended(name)}`
}

/** https://www.rfc-editor.org/rfc/rfc8187#section-3.2.1 */
function extended(name: string): string {
  return encodeURIComponent(name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** With all content: whatever it is, it runs nothing, loads nothing, and is nothing else than it is said to be. */
export const contentHeaders = {
  'Content-Security-Policy':
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';",
  'Cross-Origin-Resource-Policy': 'cross-origin',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
} as const
