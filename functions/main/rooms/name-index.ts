/** Finds the users whose name stands in a text, in time that depends on the text and not on the number of names. */
import { atBoundary, isWord } from '../../../shared/core/glob.ts'

/** A name that starts with a letter or digit is found by its first word; any other by up to so many of its characters. */
const prefixMax = 4

interface Entry {
  readonly name: string
  readonly user: string
}

/** Names and texts are given in lower case. A name counts where word boundaries are on both of its sides. */
export class NameIndex {
  readonly #entries = new Map<string, Entry[]>()
  /** First characters of names that start with no word, with the lengths of their keys as bits. */
  readonly #prefixes = new Map<number, number>()

  add(user: string, name: string): void {
    const key = keyOf(name)
    const entries = this.#entries.get(key)
    if (entries) entries.push({ name, user })
    else this.#entries.set(key, [{ name, user }])
    const first = name.charCodeAt(0)
    if (!isWord(first)) this.#prefixes.set(first, (this.#prefixes.get(first) ?? 0) | (1 << key.length))
  }

  remove(user: string, name: string): void {
    const key = keyOf(name)
    const entries = this.#entries.get(key)
    const left = entries?.filter((entry) => entry.user !== user || entry.name !== name)
    if (left?.length) this.#entries.set(key, left)
    else this.#entries.delete(key)
  }

  /** Adds to `found` who is named in `text`. */
  find(text: string, found: Set<string>): void {
    for (let at = 0; at < text.length; ) {
      const c = text.charCodeAt(at)
      if (isWord(c)) {
        const end = wordEnd(text, at)
        this.#take(text, at, end, found)
        at = end
      } else {
        const lengths = this.#prefixes.get(c)
        if (lengths !== undefined) {
          for (let length = 1; length <= prefixMax; length++) {
            if (lengths & (1 << length)) this.#take(text, at, at + length, found)
          }
        }
        at++
      }
    }
  }

  #take(text: string, at: number, keyEnd: number, found: Set<string>): void {
    const entries = this.#entries.get(text.slice(at, keyEnd))
    if (!entries) return
    for (const { name, user } of entries) {
      if (text.startsWith(name, at) && atBoundary(text, at) && atBoundary(text, at + name.length)) found.add(user)
    }
  }
}

function keyOf(name: string): string {
  return isWord(name.charCodeAt(0)) ? name.slice(0, wordEnd(name, 0)) : name.slice(0, prefixMax)
}

function wordEnd(text: string, from: number): number {
  let end = from
  while (end < text.length && isWord(text.charCodeAt(end))) end++
  return end
}
