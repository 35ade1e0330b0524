/** Where the client role's bundle starts. */
import { startHandler } from '../../shared/role/start-handler.ts'
import { createClientRole } from './client-role.ts'

await startHandler({
  role: 'client',
  mount(app, deps) {
    const client = createClientRole(deps)
    client.mount(app)
    return client
  },
})
