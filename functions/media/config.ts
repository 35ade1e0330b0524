/** https://spec.matrix.org/v1.19/client-server-api/#get_matrixclientv1mediaconfig */
import { route } from './deps.ts'

const declaration = { method: 'GET', auth: 'user' } as const

export const getMediaConfig = route({
  ...declaration,
  path: '/_matrix/client/v1/media/config',
  spec: 'client-server-api/#get_matrixclientv1mediaconfig',
  handle: (_, { config }) => ({ 'm.upload.size': config.media.max_upload_size }),
})

export const getOldMediaConfig = route({
  ...declaration,
  path: '/_matrix/media/v3/config',
  spec: 'client-server-api/#get_matrixmediav3config',
  handle: (_, { config }) => ({ 'm.upload.size': config.media.max_upload_size }),
})
