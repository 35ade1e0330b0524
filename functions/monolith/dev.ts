/** `npm run dev`. Node keeps what it made of the sources, so that the second start needs neither their compiler's time nor
 *  its memory; that has to be said before the sources are imported. */
import { enableCompileCache } from 'node:module'
import path from 'node:path'

enableCompileCache(path.join(import.meta.dirname, '../../node_modules/.cache/node-compile'))
await import('./dev-server.ts')
