/** What a handler of a role that speaks with other homeservers has for that. One a process. */
import { createFederation, type Federation } from '../federation/federation.ts'
import { loadSigningKeys } from './signing-key.ts'
import type { HandlerDeps } from './start-handler.ts'

/** Throws a sentence for the operator where there is no signing key. The caller closes it. */
export function handlerFederation(deps: HandlerDeps): Federation {
  return createFederation({ ...deps, cache: deps.replication.cache, signingKeys: loadSigningKeys(deps.config) })
}
