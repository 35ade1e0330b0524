/** Pages as a person in front of a browser uses them. */

/** The fields of the page's form, as a click sends them. */
export function fieldsOf(html: string): Record<string, string> {
  return Object.fromEntries(
    [...html.matchAll(/name="(\w+)" value="([^"]*)"/g)].map(([, name = '', value = '']) => [name, value]),
  )
}

/** Follows the link over HTTP and clicks on what is there; rejects where that does not go well. */
export async function clickThrough(link: string): Promise<string> {
  const shown = await fetch(link)
  const body = new URLSearchParams(fieldsOf(await shown.text()))
  const { origin, pathname } = new URL(link)
  const done = await fetch(`${origin}${pathname}`, { method: 'POST', body })
  const html = await done.text()
  if (!done.ok) throw new Error(`${done.status} ${html}`)
  return html
}
