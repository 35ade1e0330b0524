/** Where the main role's bundle starts. */
import { runProcess } from '../../shared/role/run-process.ts'
import { startMain } from './start-main.ts'

await runProcess('main', (config, log) => startMain(config, log.child({ role: 'main' })))
