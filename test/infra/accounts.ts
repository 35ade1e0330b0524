import { createHmac } from 'node:crypto'

/** A new account by the shared-secret API. */
export async function sharedSecretRegistration(
  baseUrl: string,
  secret: string,
  username: string,
): Promise<{ user_id: string; access_token: string }> {
  const endpoint = `${baseUrl}/_synapse/admin/v1/register`
  const { nonce } = (await (await fetch(endpoint)).json()) as { nonce: string }
  const password = 'a password for a test'
  const mac = createHmac('sha1', secret).update([nonce, username, password, 'notadmin'].join('\0')).digest('hex')
  const response = await fetch(endpoint, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ nonce, username, password, admin: false, mac }),
  })
  if (!response.ok) throw new Error(`${username} could not be registered: ${response.status} ${await response.text()}`)
  return (await response.json()) as { user_id: string; access_token: string }
}
