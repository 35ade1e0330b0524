/** Reads what another server answers with media: two parts, metadata and content.
 *  https://spec.matrix.org/v1.19/server-server-api/#get_matrixfederationv1mediadownloadmediaid */

/** The content; or where it is to be fetched from. */
export type RemoteContent =
  | { readonly headers: Headers; readonly body: AsyncIterable<Uint8Array> }
  | { readonly location: string }

/** Of a part's headers, and of the metadata, which nobody needs yet. */
const headBytesMax = 16 * 1024
const metadataBytesMax = 64 * 1024
/** https://www.rfc-editor.org/rfc/rfc2046#section-5.1.1 */
const boundaryOf = /^multipart\/mixed\s*;(?:.*;)?\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))/i

/** Throws an Error for what is no such answer, also while the content is read. */
export async function readMultipart(
  contentType: string | null,
  bytes: AsyncIterable<Uint8Array>,
): Promise<RemoteContent> {
  const found = boundaryOf.exec(contentType ?? '')
  const boundary = found?.[1] ?? found?.[2]
  if (boundary === undefined) throw new Error('the answer is not in parts')
  const source = new Source(bytes)
  // The first delimiter need not follow the end of a line.
  const delimiter = Buffer.from(`\r\n--${boundary}`)
  source.unread(Buffer.from('\r\n'))
  await source.until(delimiter, metadataBytesMax)
  await readHead(source)
  await source.until(delimiter, metadataBytesMax)
  const headers = await readHead(source)
  const location = headers.get('location')
  if (location !== null) return { location }
  return { headers, body: source.content(delimiter) }
}

async function readHead(source: Source): Promise<Headers> {
  const text = (await source.until(Buffer.from('\r\n\r\n'), headBytesMax)).toString('latin1')
  const headers = new Headers()
  const [afterDelimiter = '', ...lines] = text.split('\r\n')
  if (afterDelimiter.trim() !== '') throw new Error('a part of the answer does not begin where it should')
  for (const line of lines) {
    const colon = line.indexOf(':')
    if (colon <= 0) throw new Error('a part of the answer has a header that is none')
    headers.append(line.slice(0, colon).trim(), line.slice(colon + 1).trim())
  }
  return headers
}

/** Bytes that are looked through for what separates them. */
class Source {
  readonly #iterator: AsyncIterator<Uint8Array>
  #buffered: Buffer = Buffer.alloc(0)

  constructor(bytes: AsyncIterable<Uint8Array>) {
    this.#iterator = bytes[Symbol.asyncIterator]()
  }

  unread(bytes: Buffer): void {
    this.#buffered = Buffer.concat([bytes, this.#buffered])
  }

  async #more(): Promise<void> {
    const { done, value } = await this.#iterator.next()
    if (done) throw new Error('the answer ended too early')
    this.#buffered = Buffer.concat([this.#buffered, value])
  }

  /** What comes before the mark, which is taken too. */
  async until(mark: Buffer, bytesMax: number): Promise<Buffer> {
    for (;;) {
      const at = this.#buffered.indexOf(mark)
      if (at >= 0) {
        const before = this.#buffered.subarray(0, at)
        this.#buffered = this.#buffered.subarray(at + mark.length)
        return before
      }
      if (this.#buffered.length > bytesMax) throw new Error('a part of the answer is longer than it may be')
      await this.#more()
    }
  }

  /** The bytes up to the mark, as they come. */
  async *content(mark: Buffer): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const at = this.#buffered.indexOf(mark)
        if (at >= 0) {
          if (at > 0) yield this.#buffered.subarray(0, at)
          return
        }
        // The mark may have begun at the end of what is here.
        const sure = this.#buffered.length - mark.length + 1
        if (sure > 0) {
          yield this.#buffered.subarray(0, sure)
          this.#buffered = this.#buffered.subarray(sure)
        }
        await this.#more()
      }
    } finally {
      await this.#iterator.return?.()
    }
  }
}
