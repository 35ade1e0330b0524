/** Who makes a request, as the access token tells. */
import type { DeviceId, UserId } from '../matrix/ids.ts'

export interface Requester {
  readonly user_id: UserId
  readonly device_id: DeviceId
  readonly admin: boolean
  readonly guest: boolean
  /** May do nothing but log out. https://spec.matrix.org/v1.19/client-server-api/#account-locking */
  readonly locked: boolean
  /** May read and leave. https://spec.matrix.org/v1.19/client-server-api/#account-suspension */
  readonly suspended: boolean
  /** SHA-256 of the access token, base64url: names the session where the token itself must not be. */
  readonly token_hash: string
}
