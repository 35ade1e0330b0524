/** The status page: one document with its style and script inside, which the content security policy names by their hashes.
 *  It loads nothing from anywhere, and talks to this server alone. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { TextReply } from '../../../shared/http/route.ts'

const folder = new URL('./page/', import.meta.url)
let made: TextReply | undefined

export function statusPage(): TextReply {
  made ??= makePage()
  return made
}

function makePage(): TextReply {
  const [page, style, script] = ['status.html', 'status.css', 'status.js'].map((name) =>
    readFileSync(new URL(name, folder), 'utf8'),
  ) as [string, string, string]
  // Functions, since a replacement text may hold `$`.
  const html = page.replace('/* style */', () => style).replace('/* script */', () => script)
  const policy = [
    "default-src 'none'",
    `script-src '${hashOf(script)}'`,
    `style-src '${hashOf(style)}'`,
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ]
  return new TextReply(html, {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': policy.join('; '),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-cache',
  })
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}
