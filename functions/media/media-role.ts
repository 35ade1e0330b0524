/** The media role: the content repository. Bytes go to a store and come from there; what is known of them is written by command. */
import type { Hono } from 'hono'
import type { Clock } from '../../shared/clock.ts'
import type { MainClient } from '../../shared/commands/registry.ts'
import type { Config } from '../../shared/config/schema.ts'
import { createEgress } from '../../shared/egress/egress.ts'
import type { Federation } from '../../shared/federation/federation.ts'
import { mount } from '../../shared/http/mount.ts'
import { roleContext } from '../../shared/http/role-context.ts'
import type { Logger } from '../../shared/logging.ts'
import { openMediaStore } from '../../shared/media/open-store.ts'
import { checkedStore, ForeignStoreError } from '../../shared/media/store-marker.ts'
import type { Replication } from '../../shared/replication/replication.ts'
import { installationId } from '../../shared/storage/media.ts'
import type { ReadSql } from '../../shared/storage/sql.ts'
import { createAccessNotes } from './access-notes.ts'
import { createArrivingMedia } from './arriving-media.ts'
import type { MediaDeps } from './deps.ts'
import { createPreviews } from './previews/previews.ts'
import { createRemoteMedia } from './remote/remote-media.ts'
import { mediaRoutes } from './routes.ts'
import { createScanner } from './scanner.ts'
import { createStoredThumbnails } from './stored-thumbnails.ts'
import { createThumbnailer } from './thumbnails/thumbnailer.ts'
import { createUploads } from './uploads.ts'

export interface MediaRole {
  readonly routes: typeof mediaRoutes
  readonly deps: MediaDeps
  mount(app: Hono): void
  /** Throws ForeignStoreError where the store of media is another installation's. */
  checkStore(): Promise<void>
  close(): Promise<void>
}

export function createMediaRole(given: {
  readonly config: Config
  readonly sql: ReadSql
  readonly main: MainClient
  readonly replication: Replication
  readonly clock: Clock
  readonly log: Pick<Logger, 'error' | 'warn'>
  readonly federation: Federation
}): MediaRole {
  const { config, main, clock, log, federation } = given
  const context = roleContext(given)
  const store = checkedStore(openMediaStore(config), () => installationId(given.sql))
  const scanner = config.media.scanner && createScanner({ settings: config.media.scanner, store, log })
  const uploads = createUploads({
    main,
    store,
    clock,
    serverName: config.server_name,
    scanner,
    onError: (err) => log.error({ err }, 'main could not be told of an upload'),
  })
  const accessNotes = createAccessNotes({
    main,
    clock,
    onError: (err) => log.error({ err }, 'main could not be told which media are used'),
  })
  const arriving = createArrivingMedia(given)
  const thumbnailer = createThumbnailer({ config: config.thumbnails, clock })
  const thumbnails = createStoredThumbnails({ ...given, config: config.thumbnails, store, uploads, thumbnailer })
  const egress = createEgress({ config: config.egress, clock })
  const previews = createPreviews({
    ...given,
    egress,
    config: config.url_previews,
    storeImage: ({ bytes, content_type }) =>
      uploads.store({
        bytes,
        size: bytes.length,
        bytesMax: bytes.length,
        content_type,
        user_id: undefined,
        kind: 'preview',
      }),
    onError: (err) => log.warn({ err }, 'the picture of a preview could not be stored'),
  })
  const deps: MediaDeps = {
    ...given,
    limiter: context.limiter,
    store,
    uploads,
    accessNotes,
    arriving,
    thumbnails,
    previews,
    remote: createRemoteMedia({ ...given, egress, uploads, federation: federation.client }),
  }
  return {
    routes: mediaRoutes,
    deps,
    mount: (app) => mount(app, mediaRoutes, { ...context, authenticateServer: federation.authenticateServer, deps }),
    async checkStore() {
      try {
        await store.check()
      } catch (err) {
        if (err instanceof ForeignStoreError) throw err
        // Nothing is used of it before it was looked at.
        log.warn({ err }, 'the store of media cannot be used yet; it is tried again')
      }
    },
    async close() {
      arriving.close()
      uploads.close()
      await accessNotes.close()
      await thumbnailer.close()
      await egress.close()
      await scanner?.close()
      await store.close()
    },
  }
}
