/** Which characters the bytes of a page are. https://html.spec.whatwg.org/multipage/parsing.html#determining-the-character-encoding */

/** As far into a page as a `meta` is looked for. */
export const charsetBytes = 1_024

/** By the byte order mark, the header, what the page says of itself, and then by what the bytes can be. */
export function decoderFor(contentType: string, start: Uint8Array): TextDecoder {
  const head = Buffer.from(start.buffer, start.byteOffset, Math.min(start.length, charsetBytes))
  const labels = [byteOrderMark(head), parameter(contentType), declared(head)]
  for (const label of labels) {
    const decoder = label === undefined ? undefined : decoderOf(label)
    if (decoder) return decoder
  }
  return new TextDecoder(canBeUtf8(head) ? 'utf-8' : 'windows-1252')
}

function byteOrderMark(head: Buffer): string | undefined {
  if (head[0] === 0xef && head[1] === 0xbb && head[2] === 0xbf) return 'utf-8'
  if (head[0] === 0xfe && head[1] === 0xff) return 'utf-16be'
  if (head[0] === 0xff && head[1] === 0xfe) return 'utf-16le'
  return undefined
}

function parameter(contentType: string): string | undefined {
  return /;\s*charset\s*=\s*"?([^\s";]+)/i.exec(contentType)?.[1]
}

/** A page that says in ASCII that it is UTF-16 is not. */
function declared(head: Buffer): string | undefined {
  const text = head.toString('latin1')
  const label =
    /<meta\s[^>]{0,500}?charset\s*=\s*["']?\s*([^\s"'/>;]+)/i.exec(text)?.[1] ??
    /^\s*<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([^"']+)/i.exec(text)?.[1]
  return label !== undefined && /^utf-?16/i.test(label) ? 'utf-8' : label
}

/** Nothing for labels that nobody knows, or that stand for no text. */
function decoderOf(label: string): TextDecoder | undefined {
  try {
    return new TextDecoder(label)
  } catch (error) {
    if (error instanceof RangeError) return undefined
    throw error
  }
}

function canBeUtf8(head: Buffer): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(head, { stream: true })
    return true
  } catch (error) {
    if (error instanceof TypeError) return false
    throw error
  }
}
