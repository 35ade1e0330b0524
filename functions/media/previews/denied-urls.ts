/** URLs that are not previewed, by patterns of the operator on parts of them. They run over what users send, so none of them may
 *  be slow: globs as in rooms' patterns, and expressions by an engine that does not go back. */

import type { RE2JS } from 're2js'
import { ConfigError } from '../../../shared/config/load.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { compileGlob } from '../../../shared/core/glob.ts'

type Rule = Config['url_previews']['denied_urls'][number]
/** Longer URLs are not previewed. */
export const urlCharactersMax = 4_096

const parts: readonly { pattern(rule: Rule): string | undefined; read(url: URL): string }[] = [
  { pattern: (rule) => rule.scheme, read: (url) => url.protocol.slice(0, -1) },
  { pattern: (rule) => rule.host, read: (url) => url.hostname.replace(/\.$/, '') },
  { pattern: (rule) => rule.port, read: (url) => url.port || (url.protocol === 'https:' ? '443' : '80') },
  { pattern: (rule) => rule.path, read: (url) => url.pathname },
  { pattern: (rule) => rule.query, read: (url) => url.search.slice(1) },
]

/** A rule denies where all of its patterns match. Rejects with ConfigError. */
export async function deniedUrls(rules: Config['url_previews']['denied_urls']): Promise<(url: URL) => boolean> {
  // Few have expressions, and their engine is large.
  const engine = rules.some((rule) => parts.some(({ pattern }) => isExpression(pattern(rule))))
    ? await import('re2js')
    : undefined
  const compiled = rules.map((rule) =>
    parts.flatMap(({ pattern, read }) => {
      const found = pattern(rule)
      return found === undefined ? [] : [{ read, matches: compile(found, engine) }]
    }),
  )
  return (url) => compiled.some((rule) => rule.length > 0 && rule.every(({ read, matches }) => matches(read(url))))
}

function compile(pattern: string, engine: typeof import('re2js') | undefined): (text: string) => boolean {
  if (engine === undefined || !isExpression(pattern)) {
    const glob = compileGlob(pattern)
    return (text) => glob.matches(text)
  }
  const expression = compileExpression(pattern, engine)
  return (text) => expression.matcher(text).find()
}

function isExpression(pattern: string | undefined): boolean {
  return pattern?.startsWith('^') === true
}

function compileExpression(pattern: string, { RE2JS }: typeof import('re2js')): RE2JS {
  try {
    return RE2JS.compile(pattern)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new ConfigError([`url_previews.denied_urls: ${pattern} is not an expression of RE2: ${reason}`])
  }
}
