/** The server under `npm run dev`: a process of its own, so that a change of the sources replaces it alone. */
import { enableCompileCache } from 'node:module'
import path from 'node:path'

// Before the sources are imported: the next start needs neither their compiler's time nor its memory.
enableCompileCache(path.join(import.meta.dirname, '../../node_modules/.cache/node-compile'))
await import('./serve-one.ts')
