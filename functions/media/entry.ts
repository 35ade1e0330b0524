/** Where the media role's bundle starts. */
import { startHandler } from '../../shared/role/start-handler.ts'
import { createMediaRole } from './media-role.ts'

await startHandler({
  role: 'media',
  async mount(app, deps) {
    const media = createMediaRole(deps)
    try {
      await media.checkStore()
    } catch (error) {
      await media.close()
      throw error
    }
    media.mount(app)
    return media
  },
})
