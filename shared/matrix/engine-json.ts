/** `JSON.parse` without its fault: V8 12.8 to at least 14.6 compares the source of an escaped key with the keys of objects
 *  that it read before, so after `{"a":1,"\\":2}` the key `"\n"` of `{"a":1,"\n":2}` reads as `\`. Whoever sends the one
 *  could change what is read of the other. https://github.com/nodejs/node/issues/63785
 *
 *  Texts in which a key has an escape are rare; they are read here, all others by the engine. */
import type { JsonValue } from './json-value.ts'

/** As `JSON.parse`. The text must not nest deeper than the stack allows, which `parseJson` sees to. */
export function parseText(text: string): JsonValue {
  return hasEscapedKey(text) ? readText(text, Number) : (JSON.parse(text) as JsonValue)
}

/** As `parseText`, where numbers are what `number` makes of their source. Throws SyntaxError on what is no JSON. */
export function readText(text: string, number: (source: string) => JsonValue): JsonValue {
  JSON.parse(text) // its answer may be wrong, but not whether there is one
  return new Reader(text, number).value()
}

/** On text that is no JSON the answer means nothing. */
export function hasEscapedKey(text: string): boolean {
  for (let at = text.indexOf('\\'); at >= 0; ) {
    const end = endOfString(text, at)
    if (end < 0) return false
    if (text.charCodeAt(afterSpace(text, end)) === colon) return true
    at = text.indexOf('\\', end)
  }
  return false
}

const quote = 0x22
const backslash = 0x5c
const colon = 0x3a

/** Reads text that is known to be JSON. */
class Reader {
  readonly #text: string
  readonly #number: (source: string) => JsonValue
  #at = 0

  constructor(text: string, number: (source: string) => JsonValue) {
    this.#text = text
    this.#number = number
  }

  value(): JsonValue {
    this.#skipSpace()
    switch (this.#text[this.#at]) {
      case '{':
        return this.#object()
      case '[':
        return this.#array()
      case '"':
        return this.#string()
      default:
        return this.#literal()
    }
  }

  #object(): JsonValue {
    const object: Record<string, JsonValue> = {}
    while (this.#goesOn('}')) {
      const key = this.#string()
      this.#skipSpace()
      this.#at++
      const value = this.value()
      if (key === '__proto__') {
        Object.defineProperty(object, key, { value, writable: true, enumerable: true, configurable: true })
      } else object[key] = value
    }
    return object
  }

  #array(): JsonValue {
    const array: JsonValue[] = []
    while (this.#goesOn(']')) array.push(this.value())
    return array
  }

  /** Steps over the bracket or comma in front; false, and behind it, when what follows is `close`. */
  #goesOn(close: string): boolean {
    this.#skipSpace()
    if (this.#text[this.#at] !== close) {
      this.#at++
      this.#skipSpace()
      if (this.#text[this.#at] !== close) return true
    }
    this.#at++
    return false
  }

  #string(): string {
    const start = this.#at
    this.#at = endOfString(this.#text, start + 1)
    // A string alone has no keys, so here the engine is right.
    return JSON.parse(this.#text.slice(start, this.#at)) as string
  }

  #literal(): JsonValue {
    const start = this.#at
    while (this.#at < this.#text.length && !/[\s,\]}]/.test(this.#text[this.#at] as string)) this.#at++
    const source = this.#text.slice(start, this.#at)
    return /^[tfn]/.test(source) ? (JSON.parse(source) as JsonValue) : this.#number(source)
  }

  #skipSpace(): void {
    this.#at = afterSpace(this.#text, this.#at)
  }
}

/** Behind the quote that ends the string in which `at` is; -1 when nothing ends it. */
function endOfString(text: string, at: number): number {
  for (let i = at; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit === backslash) i++
    else if (unit === quote) return i + 1
  }
  return -1
}

function afterSpace(text: string, at: number): number {
  let i = at
  for (let unit = text.charCodeAt(i); unit === 0x20 || (unit >= 0x09 && unit <= 0x0d); ) unit = text.charCodeAt(++i)
  return i
}
