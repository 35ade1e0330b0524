import { getKeysChanges } from './changes.ts'
import { postKeysClaim } from './claim.ts'
import { postDeviceSigningUpload, postSignaturesUpload } from './cross-signing.ts'
import { postKeysQuery } from './query.ts'
import { postKeysUpload } from './upload.ts'

export const keyRoutes = [
  postKeysUpload,
  postKeysQuery,
  postKeysClaim,
  getKeysChanges,
  postDeviceSigningUpload,
  postSignaturesUpload,
] as const
