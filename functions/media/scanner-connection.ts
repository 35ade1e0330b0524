/** Connections to the scanner: to the operator's own address, wherever that is, and to none that users choose. A file of its own:
 *  it is loaded where there is a scanner alone, and of a CommonJS package that is imported by `import()`, a bundle knows no names. */
import { Agent, request } from 'undici'

export function connectScanner(timeoutMs: number) {
  return { request, dispatcher: new Agent({ headersTimeout: timeoutMs, bodyTimeout: timeoutMs }) }
}
