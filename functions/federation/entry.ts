/** Where the federation role's bundle starts. */
import { mount } from '../../shared/http/mount.ts'
import { roleContext } from '../../shared/http/role-context.ts'
import { loadSigningKeys } from '../../shared/role/signing-key.ts'
import { startHandler } from '../../shared/role/start-handler.ts'
import { federationRoutes } from './routes.ts'

await startHandler({
  role: 'federation',
  mount(app, deps) {
    const signingKeys = loadSigningKeys(deps.config)
    mount(app, federationRoutes, { ...roleContext(deps), deps: { ...deps, signingKeys } })
    return { close() {} }
  },
})
