/** What the media role's routes may use; `media-role.ts` puts it together. */
import type { Clock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import type { Config } from '../../shared/config/schema.ts'
import type { Limiter } from '../../shared/http/rate-limit.ts'
import { routesFor } from '../../shared/http/route.ts'
import type { Logger } from '../../shared/logging.ts'
import type { MediaStore } from '../../shared/media/store.ts'
import type { Replication } from '../../shared/replication/replication.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import type { AccessNotes } from './access-notes.ts'
import type { ArrivingMedia } from './arriving-media.ts'
import type { Previews } from './previews/previews.ts'
import type { RemoteMedia } from './remote/remote-media.ts'
import type { StoredThumbnails } from './stored-thumbnails.ts'
import type { Uploads } from './uploads.ts'

export interface MediaDeps {
  readonly config: Config
  readonly sql: ReadSql
  readonly main: MainClient
  readonly replication: Replication
  readonly clock: Clock
  readonly log: Pick<Logger, 'error' | 'warn'>
  readonly limiter: Limiter
  readonly store: MediaStore
  readonly uploads: Uploads
  readonly accessNotes: AccessNotes
  readonly arriving: ArrivingMedia
  readonly thumbnails: StoredThumbnails
  readonly previews: Previews
  readonly remote: RemoteMedia
}

export const route = routesFor<MediaDeps>()
