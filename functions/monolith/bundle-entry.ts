/** Where the bundle starts. Node keeps beside it what it compiled, which saves a tenth of the next start; where that
 *  folder cannot be written, it starts without. It has to be said before the rest is imported. */
import { enableCompileCache } from 'node:module'
import path from 'node:path'

enableCompileCache(path.join(import.meta.dirname, '.compiled'))
await import('./server.ts')
