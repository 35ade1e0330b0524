/** oEmbed, for what pages do not say themselves: found by a link in the page, or at a provider of the configuration.
 *  https://oembed.com/ */
import * as v from 'valibot'
import type { Config } from '../../../shared/config/schema.ts'
import { compileGlob } from '../../../shared/core/glob.ts'
import { createPageReader } from './page-facts.ts'
import { type PreviewText, webUrl } from './preview-data.ts'
import { tidy } from './tidy.ts'

const text = v.optional(v.fallback(v.union([v.string(), v.undefined()]), undefined))
const Answer = v.object({
  type: v.string(),
  title: text,
  author_name: text,
  provider_name: text,
  thumbnail_url: text,
  /** Of a photo: the picture. */
  url: text,
  /** Of rich content and videos. Nothing of it but its words goes further. */
  html: text,
})

export interface OEmbedPreview {
  readonly text: PreviewText
  readonly images: readonly URL[]
}

const textCharacters = 2_000

/** Where the URL's oEmbed is, by the first provider of the configuration that has it. */
export function oembedProviders(providers: Config['url_previews']['oembed_providers']): (url: URL) => URL | undefined {
  const compiled = providers.map(({ endpoint, urls }) => ({ endpoint, globs: urls.map(compileGlob) }))
  return (url) => {
    const provider = compiled.find(({ globs }) => globs.some((glob) => glob.matches(url.href)))
    if (!provider) return undefined
    const at = new URL(provider.endpoint)
    at.searchParams.set('url', url.href)
    at.searchParams.set('format', 'json')
    return at
  }
}

/** undefined for what is not oEmbed's JSON. */
export function oembedPreview(bytes: Buffer, url: URL): OEmbedPreview | undefined {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), Answer), bytes.toString('utf8'))
  if (!parsed.success) return undefined
  const { type, title, author_name, provider_name, thumbnail_url, html } = parsed.output
  const told: Record<string, string> = {}
  const put = (name: string, value: string | undefined) => {
    const clean = tidy((value ?? '').slice(0, textCharacters))
    if (clean !== '') told[name] = clean
  }
  put('og:title', title ?? author_name)
  put('og:site_name', provider_name)
  if (type === 'rich' && html !== undefined) put('og:description', wordsOf(html))
  const pictures = [type === 'photo' ? parsed.output.url : undefined, thumbnail_url]
  return { text: told, images: pictures.flatMap((picture) => (picture && webUrl(picture, url)) || []) }
}

function wordsOf(html: string): string {
  const reader = createPageReader()
  reader.write(html)
  reader.end()
  return reader.facts.paragraphs.join(' ')
}
