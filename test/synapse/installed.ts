/** Where test/synapse/install.sh puts Synapse. */
import { existsSync } from 'node:fs'
import path from 'node:path'

/** The Python that has its modules. */
export const synapsePython: string = path.resolve(import.meta.dirname, '../../node_modules/.cache/synapse/bin/python')

export const synapseInstalled: boolean = existsSync(synapsePython)
if (!synapseInstalled) console.log('left out: tests beside Synapse, which test/synapse/install.sh installs')
