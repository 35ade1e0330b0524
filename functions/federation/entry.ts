/** Where the federation role's bundle starts. */
import { handlerFederation } from '../../shared/role/handler-federation.ts'
import { startHandler } from '../../shared/role/start-handler.ts'
import { mountFederation } from './federation-role.ts'

await startHandler({
  role: 'federation',
  mount(app, deps) {
    const federation = handlerFederation(deps)
    mountFederation(app, { ...deps, federation })
    return federation
  },
})
