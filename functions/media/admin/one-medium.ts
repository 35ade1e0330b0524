/** Administration of single media. https://element-hq.github.io/synapse/latest/admin_api/media_admin_api.html */
import * as v from 'valibot'
import { MediaId } from '../../../shared/commands/media.ts'
import { ServerName } from '../../../shared/matrix/ids.ts'
import { isAwaited, mediumOf } from '../../../shared/storage/media.ts'
import { route } from '../deps.ts'
import { mediaParams, nameOf, notFound } from '../download.ts'

export const mediaAdminSpec = 'https://element-hq.github.io/synapse/latest/admin_api/media_admin_api.html'
const declaration = { spec: mediaAdminSpec, auth: 'admin' } as const
const base = '/_synapse/admin/v1/media'
const ownParams = v.object({ mediaId: MediaId })

export const getMedium = route({
  ...declaration,
  method: 'GET',
  path: `${base}/:serverName/:mediaId`,
  params: mediaParams,
  async handle({ params }, { sql }) {
    const medium = await mediumOf(sql, nameOf(params))
    if (!medium || isAwaited(medium)) throw notFound()
    const { origin, media_id, user_id, content_type, size, upload_name, created_ts, last_access_ts } = medium
    const media_info = {
      media_origin: origin,
      media_id,
      user_id,
      media_type: content_type,
      media_length: size,
      upload_name,
      created_ts,
      last_access_ts,
      quarantined_by: medium.quarantined_by,
      authenticated: medium.authenticated,
      safe_from_quarantine: medium.protected,
      sha256: medium.sha256,
    }
    return { media_info }
  },
})

export const deleteMedium = route({
  ...declaration,
  method: 'DELETE',
  path: `${base}/:serverName/:mediaId`,
  params: mediaParams,
  async handle({ params, user }, { sql, main }) {
    const name = nameOf(params)
    if (!(await mediumOf(sql, name))) throw notFound()
    await main.deleteMedia({ media: [name], deleted_by: user.user_id })
    return { deleted_media: [name.media_id], total: 1 }
  },
})

export const quarantineMedium = route({
  ...declaration,
  method: 'POST',
  path: `${base}/quarantine/:serverName/:mediaId`,
  params: mediaParams,
  async handle({ params, user }, { main }) {
    await main.quarantineMedia({ media: [nameOf(params)], quarantined_by: user.user_id })
    return {}
  },
})

export const unquarantineMedium = route({
  ...declaration,
  method: 'POST',
  path: `${base}/unquarantine/:serverName/:mediaId`,
  params: mediaParams,
  async handle({ params }, { main }) {
    await main.unquarantineMedia({ media: [nameOf(params)] })
    return {}
  },
})

export const protectMedium = route({
  ...declaration,
  method: 'POST',
  path: `${base}/protect/:mediaId`,
  params: ownParams,
  handle: ({ params: { mediaId } }, { main, config }) =>
    main.protectMedia({ origin: config.server_name, media_id: mediaId, protected: true }),
})

export const unprotectMedium = route({
  ...declaration,
  method: 'POST',
  path: `${base}/unprotect/:mediaId`,
  params: ownParams,
  handle: ({ params: { mediaId } }, { main, config }) =>
    main.protectMedia({ origin: config.server_name, media_id: mediaId, protected: false }),
})

export const serverParams = v.object({ serverName: ServerName })
