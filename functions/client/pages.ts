/** Pages for the browser: each is one document that loads nothing from anywhere, which the content security policy says. */
import { createHash } from 'node:crypto'
import { escapeHtml } from '../../shared/escape-html.ts'
import { TextReply } from '../../shared/http/route.ts'
import { MatrixError } from '../../shared/matrix/matrix-error.ts'

/** `directives` come beside what holds for all pages: nothing is loaded, and no other page shows this one. */
export function pageHeaders(directives: readonly string[]): Readonly<Record<string, string>> {
  const policy = ["default-src 'none'", ...directives, "base-uri 'none'", "frame-ancestors 'none'"]
  return {
    'Content-Type': 'text/html; charset=utf-8',
    'Content-Security-Policy': policy.join('; '),
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-cache',
  }
}

/** As a content security policy names a script or style inside of the page. */
export function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}

const style =
  'body{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto 0;padding:0 1rem;color:#222;background:#fff}' +
  'button{font:inherit;padding:.5em 1.2em}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}a{color:#8cf}}'

export interface Page {
  readonly title: string
  /** HTML, as `html` makes it. */
  readonly body: string
  readonly status?: number
  /** Where the browser goes on to. */
  readonly next?: string | undefined
  /** What it runs once it is shown. */
  readonly script?: string
  /** The page, or one it leads to, talks to the window that opened it. */
  readonly toldTo?: 'opener'
}

export function page({ title, body, status = 200, next, script, toldTo }: Page): TextReply {
  const onwards = next === undefined ? '' : html`<meta http-equiv="refresh" content="1; url=${next}">`
  const link = next === undefined ? '' : html`<p><a href="${next}">Go on</a></p>`
  const document = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">${onwards}
<title>${html`${title}`}</title><style>${style}</style></head>
<body><h1>${html`${title}`}</h1>
${body}${link}${script === undefined ? '' : `<script>${script}</script>`}
</body></html>
`
  const { 'Cross-Origin-Opener-Policy': opener = '', ...headers } = pageHeaders([
    `style-src '${hashOf(style)}'`,
    ...(script === undefined ? [] : [`script-src '${hashOf(script)}'`]),
    "form-action 'self'",
  ])
  // An app that opened the page is told by a script when all is done.
  const opened = toldTo === 'opener' ? {} : { 'Cross-Origin-Opener-Policy': opener }
  return new TextReply(document, { ...headers, ...opened, 'Cache-Control': 'no-store' }, status)
}

/** A button that posts these fields to where the page is from. A link would be followed by whatever looks through mails. */
export function postButton(label: string, fields: Readonly<Record<string, string>>): string {
  const inputs = Object.entries({ ...fields, view: 'page' }).map(
    ([name, value]) => html`<input type="hidden" name="${name}" value="${value}">`,
  )
  // The address itself is full of tokens, so the form names no other.
  return `<form method="post" action="?">${inputs.join('')}${html`<button>${label}</button>`}</form>`
}

/** Who sent a page's form is answered with a page, also where it did not go well. */
export async function answeredByPage(view: 'page' | undefined, work: () => Promise<{ page: Page; json: object }>) {
  if (view === undefined) return (await work()).json
  try {
    return page((await work()).page)
  } catch (error) {
    if (!(error instanceof MatrixError)) throw error
    return page({ title: 'That did not work', body: html`<p>${error.message}.</p>`, status: error.status })
  }
}

/** What is put in is escaped. */
export function html(parts: TemplateStringsArray, ...values: readonly string[]): string {
  return parts.map((part, i) => part + escapeHtml(values[i] ?? '')).join('')
}
