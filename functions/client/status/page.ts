/** The status page: one document with its style and script inside, which the content security policy names by their hashes.
 *  It loads nothing from anywhere, and talks to this server alone. */
import { readFileSync } from 'node:fs'
import { TextReply } from '../../../shared/http/route.ts'
import { hashOf, pageHeaders } from '../pages.ts'

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
  return new TextReply(
    html,
    pageHeaders([
      `script-src '${hashOf(script)}'`,
      `style-src '${hashOf(style)}'`,
      "connect-src 'self'",
      "form-action 'none'",
    ]),
  )
}
