/** Where the client role's bundle starts. */
import { handlerFederation } from '../../shared/role/handler-federation.ts'
import { startHandler } from '../../shared/role/start-handler.ts'
import { createClientRole } from './client-role.ts'

await startHandler({
  role: 'client',
  mount(app, deps) {
    const federation = handlerFederation(deps)
    const client = createClientRole({ ...deps, federation })
    client.mount(app)
    return {
      async close() {
        await client.close()
        await federation.close()
      },
    }
  },
})
