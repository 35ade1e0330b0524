/** Where the federation role's bundle starts. */
import { loadSigningKeys } from '../../shared/role/signing-key.ts'
import { startHandler } from '../../shared/role/start-handler.ts'
import { mountFederation } from './federation-role.ts'

await startHandler({
  role: 'federation',
  mount: (app, deps) => mountFederation(app, { ...deps, signingKeys: loadSigningKeys(deps.config) }),
})
