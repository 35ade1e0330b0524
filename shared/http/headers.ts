/** Headers that every answer carries. https://spec.matrix.org/v1.19/client-server-api/#web-browser-clients */
export const corsHeaders: Record<string, string> = {
  'Access-Control-Allow-Origin': '*',
  'Access-Control-Allow-Methods': 'GET, POST, PUT, DELETE, OPTIONS',
  'Access-Control-Allow-Headers': 'X-Requested-With, Content-Type, Authorization',
}
export const jsonHeaders: Record<string, string> = {
  'Content-Type': 'application/json',
  'Cache-Control': 'no-store',
  ...corsHeaders,
}
/** Browsers may keep the answer to a preflight for a day. */
export const preflightHeaders: Record<string, string> = { ...corsHeaders, 'Access-Control-Max-Age': '86400' }

/** Of one connection, not of the message; `Connection` may name more. https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1 */
export const hopByHopHeaders: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])
