/** JSON of events in room versions 1 to 5, which may hold numbers that JavaScript's cannot: integers beyond ±(2^53-1),
 *  and floats whose text counts (`50.0` is hashed as `50.0`). https://spec.matrix.org/v1.19/appendices/#canonical-json
 *
 *  Such a number stays a raw piece of JSON, which `JSON.stringify` and so canonical JSON print as it is. Values with raw
 *  pieces are for hashing and storing alone: `parsePdu` gives the core plain ones. */
import { hasEscapedKey, parseText, readText } from './engine-json.ts'
import type { JsonValue } from './json-value.ts'
import { parseJson } from './parse-json.ts'

/** What `JSON.rawJSON` makes. To TypeScript it is an object like others; only `isRawJson` tells. */
export interface RawJson {
  readonly rawJSON: string
}

declare global {
  interface JSON {
    rawJSON(text: string): RawJson
    isRawJSON(value: unknown): value is RawJson
    parse(
      text: string,
      reviver: (this: unknown, key: string, value: unknown, context: { readonly source?: string }) => unknown,
    ): unknown
  }
}

/** As `parseJson`, but no number changes its text by being parsed and printed, other than to the form that all servers
 *  agree on: floats as Python prints them, since the first servers were written in it. */
export function parseJsonLossless(text: string): JsonValue {
  const plain = parseJson(text)
  if (!mayLoseNumber.test(text)) return plain
  if (hasEscapedKey(text)) return readText(text, numberOf)
  return JSON.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined ? numberOf(source) : value,
  ) as JsonValue
}

/** The same value with every raw piece as the nearest number. */
export function withPlainNumbers(value: JsonValue): JsonValue {
  return hasRawJson(value) ? parseText(JSON.stringify(value)) : value
}

export function isRawJson(value: unknown): value is RawJson {
  return JSON.isRawJSON(value)
}

/** A fraction, an exponent, or so many digits that it may be an unsafe integer; in a string it only costs time. */
const mayLoseNumber = /[0-9](?:[.eE]|[0-9]{15})/

function hasRawJson(value: JsonValue): boolean {
  if (typeof value !== 'object' || value === null) return false
  if (isRawJson(value)) return true
  return Object.values(value).some(hasRawJson)
}

function numberOf(source: string): JsonValue {
  const value = Number(source)
  const printed = printedNumber(value, source)
  return printed === String(value) ? value : (JSON.rawJSON(printed) as unknown as JsonValue)
}

function printedNumber(value: number, source: string): string {
  if (!/[.eE]/.test(source)) return source === '-0' ? '0' : source
  if (!Number.isFinite(value)) return source // canonical JSON refuses it
  return pythonFloat(value)
}

/** Python's `repr`: the shortest digits, in scientific notation below 1e-4 and from 1e16 on, never without a point or an `e`. */
function pythonFloat(value: number): string {
  if (value === 0) return Object.is(value, -0) ? '-0.0' : '0.0'
  const [digits, exponent] = value.toExponential().split('e') as [string, string]
  const power = Number(exponent)
  if (power >= -4 && power < 16) {
    const positional = power < 0 ? value.toFixed(decimals(digits) - power) : String(value)
    return positional.includes('.') ? positional : `${positional}.0`
  }
  return `${digits}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`
}

/** Digits after the point. */
function decimals(digits: string): number {
  const point = digits.indexOf('.')
  return point < 0 ? 0 : digits.length - point - 1
}
