/** Tokens: `gat_<short hash of the user>_<random>_<crc>` for access, `grt_…` for refresh, `glt_…` for login, `got_…` for OpenID. The hash of the user lets
 *  the edge send a user's requests to one handler without a look-up; the checksum turns away what was never a token of
 *  this server before anything asks the database, and lets scanners find leaked tokens. Only SHA-256 hashes are stored. */
import { hash, randomBytes } from 'node:crypto'
import { crc32 } from 'node:zlib'
import type { UserId } from '../matrix/ids.ts'

export type TokenKind = 'gat' | 'grt' | 'glt' | 'got'

const randomByteCount = 24
const shape = /^g(?:at|rt|lt|ot)_[0-9a-f]{6}_[0-9A-Za-z_-]{32}_[0-9a-f]{8}$/

export function newToken(kind: TokenKind, user: UserId): string {
  const body = `${kind}_${userTag(user)}_${randomBytes(randomByteCount).toString('base64url')}`
  return `${body}_${checksum(body)}`
}

/** False for text that this server can't have handed out. */
export function isWellFormedToken(token: string, kind: TokenKind): boolean {
  if (!token.startsWith(kind) || !shape.test(token)) return false
  const end = token.length - 9
  return checksum(token.slice(0, end)) === token.slice(end + 1)
}

/** SHA-256 as base64url: the key of caches and of invalidations. */
export function tokenHash(token: string): string {
  return hash('sha256', token, 'base64url')
}
/** The same hash as the tables keep it. */
export function tokenHashBytes(tokenHashText: string): Buffer {
  return Buffer.from(tokenHashText, 'base64url')
}

/** The first part of an access token: equal for all tokens of a user, and no secret. */
export function userTag(user: UserId): string {
  return hash('sha256', user, 'hex').slice(0, 6)
}

/** `userTag` of the user of a well-formed token. */
export function tagOfToken(token: string): string {
  return token.slice(4, 10)
}

function checksum(body: string): string {
  return crc32(body).toString(16).padStart(8, '0')
}
