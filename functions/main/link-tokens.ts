/** Tokens in links and messages. They follow from what they stand for and from a key that follows from the server's signing
 *  key, so nothing of them is stored: who reads the database, or a backup of it, can make none. */
import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto'
import type { SigningKey } from '../../shared/matrix/signatures.ts'

/** What a token stands for; the first word names the kind. */
export type TokenMeaning = readonly (string | number)[]

export interface LinkTokens {
  of(meaning: TokenMeaning): string
  /** Six digits, to be typed. Whoever takes them has to count wrong ones. */
  codeOf(meaning: TokenMeaning): string
}

export function createLinkTokens({ privateKey }: Pick<SigningKey, 'privateKey'>): LinkTokens {
  const secret = privateKey.export({ format: 'der', type: 'pkcs8' })
  const key = Buffer.from(hkdfSync('sha256', secret, '', 'ganglion tokens of links', 32))
  const digest = (meaning: TokenMeaning) => createHmac('sha256', key).update(JSON.stringify(meaning)).digest()
  return {
    of: (meaning) => digest(meaning).toString('base64url'),
    codeOf: (meaning) => (digest(['code', ...meaning]).readUIntBE(0, 6) % 1_000_000).toString().padStart(6, '0'),
  }
}

/** Takes as long for any token. */
export function isToken(given: string, expected: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)]
  return a.length === b.length && timingSafeEqual(a, b)
}
