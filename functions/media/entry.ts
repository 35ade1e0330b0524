/** Where the media role's bundle starts. */
import { handlerFederation } from '../../shared/role/handler-federation.ts'
import { startHandler } from '../../shared/role/start-handler.ts'
import { createMediaRole } from './media-role.ts'

await startHandler({
  role: 'media',
  async mount(app, deps) {
    const federation = handlerFederation(deps)
    const media = createMediaRole({ ...deps, federation })
    const close = async () => {
      await media.close()
      await federation.close()
    }
    try {
      await media.checkStore()
    } catch (error) {
      await close()
      throw error
    }
    media.mount(app)
    return { close }
  },
})
