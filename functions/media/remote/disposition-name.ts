/** The name of a file in a Content-Disposition header; undefined where it tells none.
 *  https://www.rfc-editor.org/rfc/rfc6266#section-4.3 */
export function dispositionName(header: string): string | undefined {
  const extended = /;\s*filename\*\s*=\s*utf-8'[^']*'([^\s;]+)/i.exec(header)?.[1]
  if (extended !== undefined) {
    try {
      return decodeURIComponent(extended)
    } catch (error) {
      if (!(error instanceof URIError)) throw error
    }
  }
  const quoted = /;\s*filename\s*=\s*"((?:[^"\\]|\\.)*)"/i.exec(header)?.[1]
  if (quoted !== undefined) return quoted.replace(/\\(.)/g, '$1')
  return /;\s*filename\s*=\s*([^\s;"]+)/i.exec(header)?.[1]
}
