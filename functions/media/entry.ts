/** Where the media role's bundle starts. */
import { startHandler } from '../../shared/role/start-handler.ts'
import { createMediaRole } from './media-role.ts'

await startHandler({
  role: 'media',
  mount(app, deps) {
    const media = createMediaRole(deps)
    media.mount(app)
    return media
  },
})
