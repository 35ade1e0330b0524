/** How texts are cut into words to be found again: the same for what is written and for what is searched for, whatever the
 *  database's locale. Letters lose their case and their accents; scripts without spaces between words go by letters. */

/** One word of a text. */
export interface Word {
  /** As it is compared. */
  readonly folded: string
  /** As it was written. */
  readonly written: string
}

/** Longer words are cut: nobody types more, and an index has its limits. */
const lettersMax = 64
const wordPattern = /[\p{L}\p{N}\p{M}_]+/gu
const unspaced =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]+/u
const unspacedRuns = new RegExp(`${unspaced.source}|.`, 'gu')

/** Without case, accents and differences of compatibility. */
export function fold(text: string): string {
  const plain = /^[\x20-\x7e]*$/.test(text)
    ? text
    : text
        .normalize('NFKD')
        .replace(/[\u0300-\u036f]+/g, '')
        .normalize('NFKC')
  return plain.toLowerCase()
}

/** At most `max` words, in their order. */
export function wordsOf(text: string, max = 10_000): Word[] {
  const words: Word[] = []
  for (const [written] of text.matchAll(wordPattern)) {
    if (words.length >= max) break
    // Folding may cut a word in two (a ligature's parts, a compatibility form with a space).
    for (const [folded] of fold(written).matchAll(wordPattern)) {
      words.push({ folded: [...folded].slice(0, lettersMax).join(''), written })
    }
  }
  return words
}

/** What a text is found by in an index of whole words: its words, and of scripts without spaces each pair of neighbours
 *  and each run's last letter, so that any part of a run can be put together from them. */
export function indexTerms(text: string, max: number): string[] {
  const terms = new Set<string>()
  for (const { folded } of wordsOf(text)) {
    for (const term of cut(folded)) {
      if (terms.size >= max) return [...terms]
      terms.add(term)
    }
  }
  return [...terms]
}

export interface SearchTerm {
  readonly text: string
  /** Words that begin so count too. */
  readonly prefix: boolean
}

/** Shorter ones would be the beginning of too many. */
const prefixLettersMin = 3

/** What all has to be in the index of a text that is searched for by `phrase`. */
export function searchTerms(phrase: string, max: number): SearchTerm[] {
  const terms = new Map<string, SearchTerm>()
  for (const { folded } of wordsOf(phrase, max)) {
    for (const run of runs(folded)) {
      if (!run.unspaced) terms.set(run.text, { text: run.text, prefix: run.text.length >= prefixLettersMin })
      else if (run.letters.length === 1) terms.set(run.text, { text: run.text, prefix: true })
      else for (const pair of pairs(run.letters)) terms.set(pair, { text: pair, prefix: false })
    }
  }
  return [...terms.values()].slice(0, max)
}

/** Words of the text, as written, that the search is about; undefined unless each term is found. */
export function matchedWords(text: string, terms: readonly SearchTerm[]): Set<string> | undefined {
  const found = new Set<SearchTerm>()
  const written = new Set<string>()
  for (const word of wordsOf(text)) {
    const held = cut(word.folded)
    for (const term of terms) {
      if (held.some((one) => one === term.text || (term.prefix && one.startsWith(term.text)))) {
        found.add(term)
        written.add(unspaced.test(term.text) ? term.text : word.written)
      }
    }
  }
  return found.size === terms.length ? written : undefined
}

/** By what a name is found when its beginning is typed: each word, and of scripts without spaces the rest of the run from
 *  each letter on. */
export function nameTerms(name: string, max: number): string[] {
  const terms = new Set<string>()
  for (const { folded } of wordsOf(name, max)) {
    terms.add(folded)
    for (const run of runs(folded)) {
      if (!run.unspaced) continue
      for (let i = 0; i < run.letters.length; i++) terms.add(run.letters.slice(i).join(''))
    }
  }
  return [...terms].slice(0, max)
}

interface Run {
  readonly text: string
  readonly letters: readonly string[]
  readonly unspaced: boolean
}

function runs(word: string): Run[] {
  if (!unspaced.test(word)) return [{ text: word, letters: [], unspaced: false }]
  const parts: Run[] = []
  let spaced = ''
  const flush = () => {
    if (spaced !== '') parts.push({ text: spaced, letters: [], unspaced: false })
    spaced = ''
  }
  for (const [text] of word.matchAll(unspacedRuns)) {
    if (!unspaced.test(text)) {
      spaced += text
      continue
    }
    flush()
    parts.push({ text, letters: [...text], unspaced: true })
  }
  flush()
  return parts
}

function pairs(letters: readonly string[]): string[] {
  return letters.slice(1).map((letter, i) => `${letters[i]}${letter}`)
}

function cut(word: string): string[] {
  return runs(word).flatMap((run) => (run.unspaced ? [...pairs(run.letters), run.letters.at(-1) ?? ''] : [run.text]))
}
