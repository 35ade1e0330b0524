/** Reads a page as it comes, for what a preview may say of it. Everything that is kept is bounded, whatever the page holds. */
import { Parser } from 'htmlparser2'
import { tidy } from './tidy.ts'

export interface PageFacts {
  /** Of `og:` properties the first value of each, in their order. */
  readonly og: ReadonlyMap<string, string>
  /** Other names of `meta`, lower case: the first value of each. */
  readonly meta: ReadonlyMap<string, string>
  readonly title: string | undefined
  /** The page's text, where it is for reading: a paragraph each. */
  readonly paragraphs: readonly string[]
  /** As written in the page. */
  readonly base: string | undefined
  readonly images: readonly string[]
  readonly icon: string | undefined
  /** Where oEmbed's JSON of this page is. */
  readonly oembed: string | undefined
}

export interface PageReader {
  readonly facts: PageFacts
  write(text: string): void
  end(): void
  /** Whether there is nothing more to find that a preview would need. */
  readonly complete: boolean
}

const most = { properties: 60, nameCharacters: 80, valueCharacters: 2_000, images: 10, textCharacters: 2_000 }
/** Deeper, the page is not read any more: no page for people goes there, and the parser's work grows by the depth. */
const depthMax = 400
/** Their text is not what the page is about, or no text at all. */
const unread = new Set(
  'header nav aside footer script noscript style template svg math iframe object video audio canvas select button form textarea'.split(
    ' ',
  ),
)
const inline = new Set(
  'a abbr b bdi bdo big cite code em font i kbd mark q s samp small span strong sub sup time tt u var wbr'.split(' '),
)
const voidElements = new Set('area base br col embed hr img input link meta source track wbr'.split(' '))
/** Smaller pictures are decoration, or count visitors. */
const imageSideMin = 48

export function createPageReader(): PageReader {
  const og = new Map<string, string>()
  const meta = new Map<string, string>()
  const images: string[] = []
  const paragraphs: string[] = []
  let title: string | undefined
  let titleText: string | undefined
  let base: string | undefined
  let icon: string | undefined
  let oembed: string | undefined
  let paragraph = ''
  let textLength = 0
  let depth = 0
  /** Depth at which an unread element began. */
  let unreadFrom: number | undefined
  let inBody = false
  let tooDeep = false

  const endParagraph = () => {
    const text = tidy(paragraph)
    paragraph = ''
    if (text === '') return
    paragraphs.push(text)
    textLength += text.length
  }
  const keep = (into: Map<string, string>, name: string, value: string) => {
    if (into.size < most.properties && name.length <= most.nameCharacters && !into.has(name)) {
      into.set(name, value.slice(0, most.valueCharacters))
    }
  }
  const onMeta = ({ property, name, itemprop, content }: Record<string, string>) => {
    const key = (property ?? name ?? itemprop ?? '').trim().toLowerCase()
    if (key === '' || content === undefined || tidy(content) === '') return
    keep(key.startsWith('og:') ? og : meta, key, tidy(content))
  }
  const onLink = ({ rel = '', type = '', href }: Record<string, string>) => {
    if (href === undefined) return
    const kinds = rel.toLowerCase().split(/\s+/, 10)
    if (kinds.includes('alternate') && type.trim().toLowerCase() === 'application/json+oembed') oembed ??= href
    if (kinds.includes('image_src')) keep(meta, 'image_src', href)
    if (kinds.includes('apple-touch-icon')) icon ??= href
  }
  const onImage = ({ src, width, height }: Record<string, string>) => {
    const small = (side: string | undefined) => side !== undefined && Number.parseInt(side, 10) < imageSideMin
    if (src === undefined || src.length > most.valueCharacters || /^\s*data:/i.test(src)) return
    if (images.length < most.images && !small(width) && !small(height)) images.push(src)
  }

  const parser = new Parser({
    onopentag(name, attributes) {
      if (!voidElements.has(name)) depth += 1
      if (depth > depthMax) {
        tooDeep = true
        parser.pause()
        return
      }
      if (name === 'body') inBody = true
      if (unread.has(name)) unreadFrom ??= depth
      if (unreadFrom === undefined && !inline.has(name)) endParagraph()
      switch (name) {
        case 'meta':
          return onMeta(attributes)
        case 'link':
          return onLink(attributes)
        case 'base':
          base ??= attributes.href
          return
        case 'title':
          if (unreadFrom === undefined) titleText ??= ''
          return
        case 'img':
          if (unreadFrom === undefined) onImage(attributes)
          return
      }
    },
    ontext(text) {
      if (titleText !== undefined && title === undefined) {
        if (titleText.length < most.valueCharacters) titleText += text
      } else if (unreadFrom === undefined) {
        if (paragraph.length + textLength < most.textCharacters) paragraph += text
      }
    },
    onclosetag(name) {
      if (voidElements.has(name)) return
      if (name === 'title' && titleText !== undefined) title ??= tidy(titleText.slice(0, most.valueCharacters))
      if (unreadFrom === depth) unreadFrom = undefined
      depth -= 1
      if (unreadFrom === undefined && !inline.has(name)) endParagraph()
    },
  })

  return {
    facts: {
      og,
      meta,
      paragraphs,
      images,
      get title() {
        return title || undefined
      },
      get base() {
        return base
      },
      get icon() {
        return icon
      },
      get oembed() {
        return oembed
      },
    },
    write(text) {
      if (!tooDeep) parser.write(text)
    },
    end() {
      if (!tooDeep) parser.end()
      endParagraph()
    },
    get complete() {
      // Whatever a head may still say comes before the body.
      return tooDeep || (inBody && ['og:title', 'og:description', 'og:image'].every((name) => og.has(name)))
    },
  }
}
