/** Glob patterns: `*` is any run of characters, `?` any one. No regular expressions, and a bound on the work, so
 *  no pattern is slow: one that nearly matches at too many places of a text does not match it.
 *  https://spec.matrix.org/v1.19/appendices/#glob-style-matching */

export interface Glob {
  /** True if the pattern matches the whole text. */
  matches(text: string): boolean
  /** True if the pattern matches a part of the text that starts and ends at a word boundary. */
  matchesWords(text: string): boolean
}

/** Compares as written; for a match without regard to case, lower-case both pattern and text. */
export function compileGlob(pattern: string): Glob {
  const segments = pattern.split('*')
  const first = segments[0] ?? ''
  const last = segments[segments.length - 1] ?? ''
  const middle = segments.slice(1, -1).filter((segment) => segment !== '')
  const single = segments.length === 1
  if (single && !pattern.includes('?')) {
    return { matches: (text) => text === pattern, matchesWords: (text) => includesWords(text, pattern) }
  }
  return {
    matches(text) {
      compared = 0
      const start = matchAt(text, first, 0)
      if (start < 0) return false
      if (single) return start === text.length
      const from = afterAll(text, middle, start)
      return from >= 0 && endOf(text, last, from, (end) => end === text.length) >= 0
    },
    matchesWords(text) {
      compared = 0
      if (single) return startsOf(text, first, (end) => atBoundary(text, end))
      // The earliest place for each part leaves the most room for the next.
      const start = first === '' ? 0 : earliestWord(text, first)
      if (start < 0) return false
      const from = afterAll(text, middle, start)
      if (from < 0) return false
      return last === '' || endOf(text, last, from, (end) => atBoundary(text, end)) >= 0
    },
  }
}

/** True if `literal` stands in `text` with a word boundary on both sides. */
export function includesWords(text: string, literal: string): boolean {
  if (literal === '') return false
  for (let at = text.indexOf(literal); at >= 0; at = text.indexOf(literal, at + 1)) {
    if (atBoundary(text, at) && atBoundary(text, at + literal.length)) return true
  }
  return false
}

/** True if no word goes across `at`: an end of the text, or a neighbour that is not in `[A-Za-z0-9_]`. */
export function atBoundary(text: string, at: number): boolean {
  return at === 0 || at === text.length || !isWord(text.charCodeAt(at - 1)) || !isWord(text.charCodeAt(at))
}

/** `[A-Za-z0-9_]` */
export function isWord(c: number): boolean {
  return (c >= 97 && c <= 122) || (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || c === 95
}

/** Characters that the match under way has compared, and how many it may: a few for each of the text. */
let compared = 0
const mayCompare = (text: string) => 1_000 + 4 * text.length

/** Where `segment` (literals and `?`) ends if it matches at `at`; -1 if it does not. */
function matchAt(text: string, segment: string, at: number): number {
  let place = at
  for (let i = 0; i < segment.length; i++) {
    compared++
    if (place >= text.length) return -1
    const wanted = segment.charCodeAt(i)
    if (wanted === 63) place += (text.codePointAt(place) ?? 0) > 0xffff ? 2 : 1
    else if (text.charCodeAt(place) === wanted) place++
    else return -1
  }
  return place
}

/** Where the last of `segments` ends when each is taken at its first place from `from` on; -1 if one has none. */
function afterAll(text: string, segments: readonly string[], from: number): number {
  let place = from
  for (const segment of segments) {
    if (segment.includes('?')) {
      place = endOf(text, segment, place, () => true)
      if (place < 0) return -1
    } else {
      const at = text.indexOf(segment, place)
      if (at < 0) return -1
      place = at + segment.length
    }
  }
  return place
}

function endOf(text: string, segment: string, from: number, accept: (end: number) => boolean): number {
  const max = mayCompare(text)
  for (let at = from; at <= text.length && compared < max; at++) {
    const end = matchAt(text, segment, at)
    if (end >= 0 && accept(end)) return end
  }
  return -1
}

function earliestWord(text: string, segment: string): number {
  const max = mayCompare(text)
  for (let at = 0; at <= text.length && compared < max; at++) {
    if (!atBoundary(text, at)) continue
    const end = matchAt(text, segment, at)
    if (end >= 0) return end
  }
  return -1
}

function startsOf(text: string, segment: string, accept: (end: number) => boolean): boolean {
  const max = mayCompare(text)
  for (let at = 0; at <= text.length && compared < max; at++) {
    if (!atBoundary(text, at)) continue
    const end = matchAt(text, segment, at)
    if (end >= 0 && accept(end)) return true
  }
  return false
}
