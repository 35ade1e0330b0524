/** Which bytes of content a request wants, by its conditions and its range. https://www.rfc-editor.org/rfc/rfc9110#section-14 */
import type { ByteRange } from '../../shared/media/store.ts'

export type Wanted =
  | { readonly what: 'all' }
  | { readonly what: 'part'; readonly range: ByteRange }
  | { readonly what: 'unchanged' }
  | { readonly what: 'unsatisfiable' }

export interface Conditions {
  readonly range: string | undefined
  readonly ifRange: string | undefined
  readonly ifNoneMatch: string | undefined
}

/** `etag` is a strong one; content under it never changes. */
export function wantedBytes(size: number, etag: string, { range, ifRange, ifNoneMatch }: Conditions): Wanted {
  if (ifNoneMatch !== undefined && matches(ifNoneMatch, etag)) return { what: 'unchanged' }
  // A date, or another's tag: the part that the client has may be of something else.
  if (range === undefined || (ifRange !== undefined && ifRange.trim() !== etag)) return { what: 'all' }
  const one = /^bytes[ \t]*=[ \t]*(\d{0,15})[ \t]*-[ \t]*(\d{0,15})[ \t]*$/i.exec(range)
  // Several ranges may be answered with all, and units that nobody knows have to be.
  if (!one) return { what: 'all' }
  const [, first = '', last = ''] = one
  if (first === '' && last === '') return { what: 'all' }
  if (first === '') {
    const suffix = Number(last)
    if (suffix === 0 || size === 0) return { what: 'unsatisfiable' }
    return { what: 'part', range: { start: Math.max(0, size - suffix), end: size } }
  }
  const start = Number(first)
  const end = last === '' ? size : Math.min(Number(last) + 1, size)
  if (last !== '' && Number(last) < start) return { what: 'all' }
  if (start >= size) return { what: 'unsatisfiable' }
  return { what: 'part', range: { start, end } }
}

function matches(ifNoneMatch: string, etag: string): boolean {
  const tags = ifNoneMatch.split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  return tags.includes('*') || tags.includes(etag)
}
