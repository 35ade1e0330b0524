/** Everything that the media role serves. */
import { mediaAdminRoutes } from './admin/routes.ts'
import { getMediaConfig, getOldMediaConfig } from './config.ts'
import { getDownload, getDownloadAs, getOldDownload, getOldDownloadAs } from './download.ts'
import { getFederationDownload, getFederationThumbnail } from './federation.ts'
import { previewRoutes } from './previews/routes.ts'
import { getOldThumbnail, getThumbnail } from './thumbnail.ts'
import { postCreate, postUpload, putUpload } from './upload.ts'

export const mediaRoutes = [
  postUpload,
  postCreate,
  putUpload,
  getMediaConfig,
  getOldMediaConfig,
  getDownload,
  getDownloadAs,
  getOldDownload,
  getOldDownloadAs,
  getThumbnail,
  getOldThumbnail,
  getFederationDownload,
  getFederationThumbnail,
  ...mediaAdminRoutes,
  ...previewRoutes,
] as const
