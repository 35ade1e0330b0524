/** Everything that the media role serves. */
import { getMediaConfig, getOldMediaConfig } from './config.ts'
import { getDownload, getDownloadAs, getOldDownload, getOldDownloadAs } from './download.ts'
import { previewRoutes } from './previews/routes.ts'
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
  ...previewRoutes,
] as const
