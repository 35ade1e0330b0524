/** Canonical JSON: the one encoding that hashes and signatures are made of.
 *  https://spec.matrix.org/v1.19/appendices/#canonical-json */
import type { JsonObject, JsonValue } from './json-value.ts'
import { limits } from './limits.ts'
import { isRawJson } from './lossless-json.ts'

/** The value has no canonical encoding: a float, an integer beyond ±(2^53-1), a lone surrogate, or too deep a nesting. */
export class CanonicalJsonError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'CanonicalJsonError'
  }
}

/** Keys by code point, no white space, integers alone. Throws CanonicalJsonError on what the grammar has no place for. */
export function canonicalJson(value: JsonValue): string {
  // A value whose keys are in order already, as most are, is written by the engine in one go.
  return inOrder(value, strictNumber, 0) ? JSON.stringify(value) : write(value)
}

/** As `canonicalJson`, but numbers of any kind pass, as room versions before 6 have to allow. */
export function canonicalJsonLoose(value: JsonValue): string {
  return inOrder(value, looseNumber, 0) ? JSON.stringify(value) : write(value)
}

/** The encoding that a room version asks for. */
export function canonicalJsonFor(rules: { readonly strictCanonicalJson: boolean }, value: JsonValue): string {
  return rules.strictCanonicalJson ? canonicalJson(value) : canonicalJsonLoose(value)
}

/** A string of the canonical encoding, quotes included. Throws CanonicalJsonError on a lone surrogate. */
export function canonicalString(text: string): string {
  checkString(text)
  return JSON.stringify(text)
}

function strictNumber(value: number): void {
  if (!Number.isSafeInteger(value)) {
    throw new CanonicalJsonError(
      Number.isInteger(value) ? `integer out of range: ${value}` : `not an integer: ${value}`,
    )
  }
}

function looseNumber(value: number): void {
  if (!Number.isFinite(value)) throw new CanonicalJsonError(`not a number that JSON can hold: ${value}`)
}

function checkString(text: string): void {
  if (!text.isWellFormed()) throw new CanonicalJsonError('a string holds a lone surrogate, which UTF-8 cannot encode')
}

/** Checks the whole value; tells whether every object's keys are in canonical order already. */
function inOrder(value: JsonValue, checkNumber: (value: number) => void, depth: number): boolean {
  switch (typeof value) {
    case 'string':
      checkString(value)
      return true
    case 'number':
      checkNumber(value)
      return true
    case 'boolean':
      return true
    case 'object': {
      if (value === null) return true
      if (depth >= limits.jsonDepth) throw new CanonicalJsonError('nested too deeply')
      let ordered = true
      if (Array.isArray(value)) {
        for (const item of value) if (!inOrder(item, checkNumber, depth + 1)) ordered = false
        return ordered
      }
      let before: string | undefined
      for (const key of Object.keys(value)) {
        if (key === 'rawJSON' && isRawJson(value)) {
          // Raw because it is a float, or an integer that is not safe: what the strict encoding has no place for.
          if (checkNumber === strictNumber) throw new CanonicalJsonError(`not a canonical integer: ${value.rawJSON}`)
          checkNumber(Number(value.rawJSON))
          return true
        }
        checkString(key)
        if (before !== undefined && compareCodePoints(before, key) > 0) ordered = false
        before = key
        if (!inOrder(value[key]!, checkNumber, depth + 1)) ordered = false
      }
      return ordered
    }
    default:
      throw new CanonicalJsonError(`JSON cannot hold a value of type ${typeof value}`)
  }
}

/** Writes a checked value. */
function write(value: JsonValue): string {
  if (typeof value !== 'object' || value === null || isRawJson(value)) return JSON.stringify(value)
  if (Array.isArray(value)) {
    let text = '['
    for (let i = 0; i < value.length; i++) text += i === 0 ? write(value[i]!) : `,${write(value[i]!)}`
    return `${text}]`
  }
  return writeObject(value)
}

function writeObject(object: JsonObject): string {
  let text = '{'
  for (const key of Object.keys(object).sort(compareCodePoints)) {
    text += `${text.length === 1 ? '' : ','}${JSON.stringify(key)}:${write(object[key]!)}`
  }
  return `${text}}`
}

/** Orders strings by code point. JavaScript's own order is by UTF-16 unit, where U+10000 comes before U+E000. */
export function compareCodePoints(a: string, b: string): number {
  const shorter = Math.min(a.length, b.length)
  for (let i = 0; i < shorter; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x !== y) return rank(x) - rank(y)
  }
  return a.length - b.length
}

/** Surrogates stand for code points above all others. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x2800 : unit
}
