/** Links for people: where they lead is served by one role, and given out by another. */
import type { Config } from './config/schema.ts'

/** `:medium` is email or msisdn. */
export const submitTokenPath = '/_synapse/client/:medium/submit_token'
export const renewAccountPath = '/_matrix/client/unstable/account_validity/renew'
export const consentPath = '/_matrix/consent'

/** Where a path of this server is reached from outside. */
export function publicLink(
  { public_baseurl, server_name }: Pick<Config, 'public_baseurl' | 'server_name'>,
  path: string,
  query: Readonly<Record<string, string>> = {},
): string {
  const base = (public_baseurl ?? `https://${server_name}`).replace(/\/+$/, '')
  const search = new URLSearchParams(query).toString()
  return `${base}${path}${search === '' ? '' : `?${search}`}`
}
