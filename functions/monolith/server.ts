/** `node functions/monolith/server.ts -c homeserver.yaml`: the production entry of one process with all roles. */
import { runProcess } from '../../shared/role/run-process.ts'
import { createMonolith } from './monolith.ts'

await runProcess('monolith', (config, log) => createMonolith(config, { log }))
