/** Makes the preview of a URL: fetches the page, reads what it says of itself, asks oEmbed where it says little, and keeps a
 *  copy of its picture. All of it goes out through the client that reaches nothing private, and ends in time. */
import type { Clock } from '../../../shared/clock.ts'
import type { Config } from '../../../shared/config/schema.ts'
import type { Egress, EgressResponse } from '../../../shared/egress/egress.ts'
import { EgressError } from '../../../shared/egress/egress-error.ts'
import { version } from '../../../shared/version.ts'
import { readImageHeader } from '../thumbnails/image-header.ts'
import { charsetBytes, decoderFor } from './charset.ts'
import { oembedPreview, oembedProviders } from './oembed.ts'
import { createPageReader, type PageFacts } from './page-facts.ts'
import { notFetched, type Preview } from './preview.ts'
import { filePreview, pagePreview } from './preview-data.ts'
import { tidy } from './tidy.ts'

export interface PreviewMakerDeps {
  readonly config: Config['url_previews']
  readonly egress: Egress
  readonly clock: Clock
  /** Stores a picture as media of this server. */
  storeImage(image: { readonly bytes: Buffer; readonly content_type: string }): Promise<{ readonly mxc_uri: string }>
  /** Whether a URL is among those that are not to be fetched. */
  denied(url: URL): boolean
  /** Pictures that could not be stored are left out, and told of here. */
  onError(error: unknown): void
}

export interface PreviewMaker {
  /** Throws MatrixError where the page cannot be had. */
  make(url: URL, language: string): Promise<Preview>
}

const redirects = 5
/** So much more than is read of a page may come, where it is compressed in a strange way. */
const wireFactor = 8
const oembedBytesMax = 256 * 1024
/** Of a text that is no page. */
const textBytes = 4_096
const userAgent = `Ganglion/${version} (bot; previews of links)`

export function createPreviewMaker(deps: PreviewMakerDeps): PreviewMaker {
  const { config, egress, clock, storeImage, denied, onError } = deps
  const providerOf = oembedProviders(config.oembed_providers)

  return {
    async make(url, language) {
      const until = clock.now() + config.timeout
      const get = (from: URL, accept: string, bytesMax: number) =>
        egress.request({
          url: from,
          headers: { accept, 'accept-language': language, 'user-agent': userAgent },
          redirects,
          denied,
          limits: { totalMs: Math.max(1, until - clock.now()), bytesMax },
        })
      const oembed = async (from: URL) => {
        const answer = await get(from, 'application/json', oembedBytesMax)
        if (answer.status === 200) return oembedPreview(await answer.bytes(), answer.url)
        answer.close()
        return undefined
      }
      const picture = async (candidates: readonly URL[]): Promise<Preview> => {
        for (const candidate of candidates) {
          const found = await orNothing(async () => {
            const answer = await get(candidate, 'image/*', config.image_bytes_max)
            if (answer.status === 200) return keptImage(await answer.bytes())
            answer.close()
            return undefined
          })
          if (found) return found
        }
        return {}
      }
      const keptImage = async (bytes: Buffer): Promise<Preview | undefined> => {
        const header = readImageHeader(bytes)
        if (!header) return undefined
        const { content_type, width, height } = header
        try {
          const { mxc_uri } = await storeImage({ bytes, content_type })
          return {
            'og:image': mxc_uri,
            'og:image:type': content_type,
            'og:image:width': width,
            'og:image:height': height,
            'matrix:image:size': bytes.length,
          }
        } catch (error) {
          // A preview without its picture is one all the same.
          onError(error)
          return undefined
        }
      }

      const provider = providerOf(url)
      const provided = provider && (await orNothing(() => oembed(provider)))
      if (provided) return { ...provided.text, ...(await picture(provided.images)) }

      const answer = await fetched(
        get(url, 'text/html, application/xhtml+xml;q=0.9, */*;q=0.5', config.page_bytes_max * wireFactor),
      )
      if (answer.status < 200 || answer.status > 299) {
        answer.close()
        throw notFetched('The page answers with an error')
      }
      const { kind, start, rest } = await openedBody(answer)
      const disposition = answer.headers.get('content-disposition')
      switch (kind) {
        case 'page': {
          const facts = await readPage(answer, start, rest, config.page_bytes_max)
          const page = pagePreview(facts, answer.url)
          const more =
            page.oembed && (page.text['og:title'] === undefined || !facts.og.has('og:image'))
              ? await orNothing(() => oembed(page.oembed ?? answer.url))
              : undefined
          const images = [...page.images, ...(more?.images ?? [])]
          return { ...more?.text, ...page.text, ...(await picture(images)) }
        }
        case 'image': {
          const bytes = await orNothing(() => allOf(start, rest, config.image_bytes_max))
          answer.close()
          return { ...filePreview(answer.url, disposition), ...(bytes && (await keptImage(bytes))) }
        }
        case 'text': {
          const bytes = await firstOf(start, rest, textBytes)
          answer.close()
          const text = decoderFor(contentType(answer), bytes).decode(bytes, { stream: true })
          return filePreview(answer.url, disposition, tidy(text))
        }
        case 'file':
          answer.close()
          return filePreview(answer.url, disposition)
      }
    },
  }
}

/** For what a preview can do without. */
async function orNothing<Result>(run: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await run()
  } catch (error) {
    if (error instanceof EgressError) return undefined
    throw error
  }
}

/** Why a page cannot be had is not told apart: it would tell of the network that this server is in. */
async function fetched<Result>(answer: Promise<Result>): Promise<Result> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof EgressError) throw notFetched('The page cannot be fetched')
    throw error
  }
}

type Body = AsyncIterator<Uint8Array>

async function openedBody(answer: EgressResponse): Promise<{
  readonly kind: 'page' | 'image' | 'text' | 'file'
  readonly start: Buffer
  readonly rest: Body
}> {
  const rest = answer.body[Symbol.asyncIterator]()
  const type = (contentType(answer).split(';')[0] ?? '').trim().toLowerCase()
  if (type !== '' && !/^(?:text|image)\/|^application\/xhtml\+xml$/.test(type)) {
    return { kind: 'file', start: Buffer.alloc(0), rest }
  }
  const start = await fetched(firstOf(Buffer.alloc(0), rest, charsetBytes))
  // Pictures are known by their bytes, whatever they are called.
  if (readImageHeader(start) || type.startsWith('image/')) return { kind: 'image', start, rest }
  if (
    type === 'text/html' ||
    type === 'application/xhtml+xml' ||
    (type === '' && /^\s*</.test(start.toString('latin1')))
  ) {
    return { kind: 'page', start, rest }
  }
  return { kind: type === '' ? 'file' : 'text', start, rest }
}

function contentType(answer: EgressResponse): string {
  return answer.headers.get('content-type') ?? ''
}

/** As far as the page goes, the limit allows, or there is something left to find. What was read before it broke off counts. */
async function readPage(answer: EgressResponse, start: Buffer, rest: Body, bytesMax: number): Promise<PageFacts> {
  const reader = createPageReader()
  const decoder = decoderFor(contentType(answer), start)
  let length = start.length
  reader.write(decoder.decode(start, { stream: true }))
  try {
    while (length < bytesMax && !reader.complete) {
      const step = await rest.next()
      if (step.done) break
      const part = step.value.subarray(0, bytesMax - length)
      length += part.length
      reader.write(decoder.decode(part, { stream: true }))
    }
  } catch (error) {
    if (!(error instanceof EgressError)) throw error
  } finally {
    answer.close()
  }
  reader.write(decoder.decode())
  reader.end()
  return reader.facts
}

async function firstOf(start: Buffer, rest: Body, bytes: number): Promise<Buffer> {
  const parts: Uint8Array[] = [start]
  let length = start.length
  while (length < bytes) {
    const step = await rest.next()
    if (step.done) break
    parts.push(step.value)
    length += step.value.length
  }
  return Buffer.concat(parts)
}

/** Throws EgressError where there is more. */
async function allOf(start: Buffer, rest: Body, bytesMax: number): Promise<Buffer> {
  const bytes = await firstOf(start, rest, bytesMax + 1)
  if (bytes.length > bytesMax) throw new EgressError('too_large', 'The picture is larger than pictures may be')
  return bytes
}
