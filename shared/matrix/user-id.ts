/** Predicates on ids for code that must answer, not throw. https://spec.matrix.org/v1.19/appendices/#user-identifiers */
import type { UserId } from './ids.ts'
import { fitsBytes, limits } from './limits.ts'

/** `@localpart:server` within 255 bytes. Lax about both parts, since rooms hold historical ids. */
export function isUserId(value: unknown): value is UserId {
  if (typeof value !== 'string' || value.charCodeAt(0) !== 0x40) return false
  const colon = value.indexOf(':')
  return colon > 0 && colon < value.length - 1 && !value.includes('\0') && fitsBytes(value, limits.fieldBytes)
}

/** The server part of any `sigil…:server` id, the empty string when it has none. */
export function domainOf(id: string): string {
  const colon = id.indexOf(':')
  return colon < 0 ? '' : id.slice(colon + 1)
}
