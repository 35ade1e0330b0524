import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { generateSigningKey, serialiseSigningKey } from '../../shared/matrix/signatures.ts'
import { type Command, UsageError } from './command.ts'

export const generateSigningKeyFile: Command = {
  help: `Usage: ganglion generate-signing-key [-o signing.key]

Makes a key by which the server signs its events, and prints it, or writes it to a file that is not there yet.

  -o, --output FILE   for its owner alone (mode 0600)`,
  run(args) {
    const { values } = parseArgs({ args: [...args], options: { output: { type: 'string', short: 'o' } } })
    const key = serialiseSigningKey(generateSigningKey())
    if (values.output === undefined) {
      process.stdout.write(key)
      return 0
    }
    try {
      writeFileSync(values.output, key, { mode: 0o600, flag: 'wx' })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      throw new UsageError(`${values.output} is there already`)
    }
    return 0
  },
}
