/** Regular expressions of the configuration. They are matched by RE2, which no text can make slow; that is a large package,
 *  loaded where a pattern is used. */
import type { RE2JS } from 're2js'

/** What RE2 does not have: looking around, and references back. */
const beyondRe2 = /\(\?<?[=!]|\\(?:[1-9]|k<)/

/** Known by the language's own parser, so that a mistake is told when the configuration is read. */
export function isPattern(pattern: string): boolean {
  try {
    new RegExp(pattern)
    return !beyondRe2.test(pattern)
  } catch {
    return false
  }
}

const compiled = new Map<string, RE2JS>()

/** Whether all of the text matches. Rejects for what is no pattern. */
export async function matchesPattern(pattern: string, text: string): Promise<boolean> {
  let known = compiled.get(pattern)
  if (!known) {
    const { RE2JS } = await import('re2js')
    known = RE2JS.compile(pattern)
    compiled.set(pattern, known)
  }
  return known.matches(text)
}
