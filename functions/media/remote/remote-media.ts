/** Media of other servers, fetched when somebody asks for them, and kept. */
import type { MediaName } from '../../../shared/commands/media.ts'
import type { StoredMedium } from '../../../shared/storage/media.ts'

export interface RemoteMedia {
  /** Undefined where the other server has no such medium. Throws M_TOO_LARGE with 502, and M_UNKNOWN with 502 where the other server can't be
   *  reached. */
  fetch(
    name: MediaName,
    options: { readonly timeoutMs: number; readonly signal: AbortSignal },
  ): Promise<StoredMedium | undefined>
}
