/** From what a page says of itself to what a client is told. https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediapreview_url */
import type { PageFacts } from './page-facts.ts'
import { tidy } from './tidy.ts'

/** The answer but for its picture. */
export type PreviewText = Readonly<Record<string, string>>

export interface PagePreview {
  readonly text: PreviewText
  /** Absolute, the best first; http and https alone. */
  readonly images: readonly URL[]
  readonly oembed: URL | undefined
}

const descriptionCharacters = 500
/** Of several pictures so many are tried. */
const imagesTried = 3
/** They are about the picture as the page has it; the answer says how it is here. */
const pictureProperties = /^og:image(?::(?!alt$)|$)/

export function pagePreview(facts: PageFacts, url: URL): PagePreview {
  const { og, meta } = facts
  const text: Record<string, string> = {}
  for (const [name, value] of og) if (!pictureProperties.test(name)) text[name] = value
  const title = og.get('og:title') ?? meta.get('twitter:title') ?? facts.title
  if (title !== undefined) text['og:title'] = title
  const description =
    og.get('og:description') ??
    meta.get('twitter:description') ??
    meta.get('description') ??
    summary(facts.paragraphs, text['og:title'])
  if (description !== undefined) text['og:description'] = shortened(description)

  const base = (facts.base !== undefined && webUrl(facts.base, url)) || url
  const pictures = [
    og.get('og:image:secure_url'),
    og.get('og:image'),
    og.get('og:image:url'),
    meta.get('twitter:image'),
    meta.get('twitter:image:src'),
    meta.get('image_src'),
    meta.get('image'),
    ...facts.images,
    facts.icon,
  ]
  const images = new Map<string, URL>()
  for (const picture of pictures) {
    const found = picture === undefined ? undefined : webUrl(picture, base)
    if (found && images.size < imagesTried) images.set(found.href, found)
  }
  return {
    text,
    images: [...images.values()],
    oembed: facts.oembed === undefined ? undefined : webUrl(facts.oembed, base),
  }
}

/** What there is to say of a file by its name. */
export function filePreview(url: URL, disposition: string | null, text?: string): PreviewText {
  const named = /filename\s*=\s*"?([^";]+)/i.exec(disposition ?? '')?.[1] ?? url.pathname
  const name = tidy(decoded(named).split(/[/\\]/).pop() ?? '').slice(0, descriptionCharacters)
  return {
    ...(name === '' ? {} : { 'og:title': name }),
    ...(text === undefined || text === '' ? {} : { 'og:description': shortened(text) }),
  }
}

/** Absolute, http or https, without a name and a password. */
export function webUrl(text: string, base?: URL): URL | undefined {
  const url = URL.parse(text.trim(), base)
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) return undefined
  return url.username === '' && url.password === '' ? url : undefined
}

/** The first paragraphs that are more than a heading, up to what a description may have. */
function summary(paragraphs: readonly string[], title: string | undefined): string | undefined {
  const told: string[] = []
  let length = 0
  for (const paragraph of paragraphs) {
    if (paragraph === title) continue
    if (length > 0 && length + paragraph.length > descriptionCharacters) break
    told.push(paragraph)
    length += paragraph.length
  }
  return told.length === 0 ? undefined : told.join('\n\n')
}

function shortened(text: string): string {
  if (text.length <= descriptionCharacters) return text
  const cut = text.slice(0, descriptionCharacters)
  const atWord = cut.lastIndexOf(' ')
  return `${(atWord > descriptionCharacters / 2 ? cut.slice(0, atWord) : cut).toWellFormed()}…`
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch (error) {
    if (error instanceof URIError) return name
    throw error
  }
}
