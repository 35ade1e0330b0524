/** Third-party ids in the form in which they are stored and compared. https://spec.matrix.org/v1.19/appendices/#3pid-types */
import * as v from 'valibot'

export const Medium = v.picklist(['email', 'msisdn'])
export type Medium = v.InferOutput<typeof Medium>

/** In canonical form: an email address folded, a phone number as the digits of E.164. */
export interface Threepid {
  readonly medium: Medium
  readonly address: string
}

const emailCharactersMax = 254
/** Nothing that headers, quoting or lists of addresses are made of: an address is one address. */
const part = String.raw`[^\s\p{C}@<>()[\]\\,;:"]`
const emailShape = new RegExp(`^${part}+@${part}+$`, 'u')

/** Whoever reads and writes case apart would give one mailbox to two. Undefined for what is no email address. */
export function canonicalEmail(typed: string): string | undefined {
  const text = typed.trim()
  if (text.length > emailCharactersMax || !text.isWellFormed() || !emailShape.test(text)) return undefined
  const folded = folding(text)
  return emailShape.test(folded) && folded.length <= emailCharactersMax ? folded : undefined
}

/** Case folding, by way of capitals: ß and ss are the same then, and so are all sigmas. */
function folding(text: string): string {
  return text.normalize('NFC').toUpperCase().toLowerCase().replaceAll('ς', 'σ').normalize('NFC')
}

const e164 = /^[1-9]\d{6,14}$/

/** A phone number in canonical form already, as clients send it that have asked before. */
export function canonicalMsisdn(typed: string): string | undefined {
  const digits = typed.replace(/^\+/, '')
  return e164.test(digits) ? digits : undefined
}

/** What a client calls canonical, brought there where it is not. */
export function canonicalAddress(medium: Medium, typed: string): string | undefined {
  return medium === 'email' ? canonicalEmail(typed) : canonicalMsisdn(typed)
}
