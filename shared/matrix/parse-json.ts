/** JSON as others send it. Of a key given twice the last value counts, as in nearly every parser, so all who read a text
 *  agree on what it says; what is stored or sent on is always written anew. */
import { parseText } from './engine-json.ts'
import { isJsonObject, type JsonObject, type JsonValue } from './json-value.ts'
import { limits } from './limits.ts'
import { MatrixError } from './matrix-error.ts'

/** Throws M_NOT_JSON on what is no JSON, M_BAD_JSON on JSON nested deeper than `limits.jsonDepth` and on what could not be
 *  given back as it came: half of a surrogate pair, which no UTF-8 can hold, and numbers too large for a double. */
export function parseJson(text: string): JsonValue {
  if (nestsDeeperThan(text, limits.jsonDepth)) throw new MatrixError('M_BAD_JSON', 'JSON is nested too deeply')
  let value: JsonValue
  try {
    value = parseText(text)
  } catch (error) {
    if (error instanceof SyntaxError) throw new MatrixError('M_NOT_JSON', 'Content is not JSON')
    throw error
  }
  if (mayNotComeBack.test(text)) checkComesBack(value)
  return value
}

/** A surrogate by its escape, or a number of more than 300 digits; in most texts there is neither. */
const mayNotComeBack = /\\u[dD][89a-fA-F]|[0-9][eE]\+?[0-9]{3}|[0-9]{300}/

function checkComesBack(value: JsonValue): void {
  if (typeof value === 'string') {
    if (!value.isWellFormed()) throw new MatrixError('M_BAD_JSON', 'A string holds half of a surrogate pair')
  } else if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new MatrixError('M_BAD_JSON', 'A number is too large')
  } else if (Array.isArray(value)) value.forEach(checkComesBack)
  else if (isJsonObject(value)) {
    for (const [key, inner] of Object.entries(value)) {
      checkComesBack(key)
      checkComesBack(inner)
    }
  }
}

/** As `parseJson`; M_BAD_JSON when the value is no object. */
export function parseJsonObject(text: string): JsonObject {
  const value = parseJson(text)
  if (!isJsonObject(value)) throw new MatrixError('M_BAD_JSON', 'Content must be a JSON object')
  return value
}

const quote = 0x22
const backslash = 0x5c
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** Counts brackets outside of strings; on text that is no JSON the answer means nothing, the parser speaks then. */
function nestsDeeperThan(text: string, limit: number): boolean {
  if (text.length <= limit) return false
  let depth = 0
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    if (unit === quote) {
      do {
        i = text.indexOf('"', i + 1)
        if (i < 0) return false
      } while (isEscaped(text, i))
    } else if (unit === openBrace || unit === openBracket) {
      if (++depth > limit) return true
    } else if (unit === closeBrace || unit === closeBracket) depth--
  }
  return false
}

function isEscaped(text: string, at: number): boolean {
  let first = at
  while (first > 0 && text.charCodeAt(first - 1) === backslash) first--
  return (at - first) % 2 === 1
}
