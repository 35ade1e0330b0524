/** What every command of `ganglion` has. */

export interface Command {
  readonly help: string
  /** Returns the exit code. */
  run(args: readonly string[]): Promise<number> | number
}

/** The command line is wrong; its message is shown alone. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

/** For `parseArgs`: where the configuration is. */
export const configOption = { 'config-path': { type: 'string', short: 'c', multiple: true } } as const

/** What `--config-path` named, or else GANGLION_CONFIG_PATH: paths, parted by colons. */
export function configPaths(values: { readonly 'config-path'?: readonly string[] }): readonly string[] {
  const fromEnvironment = (process.env.GANGLION_CONFIG_PATH ?? '').split(':').filter((path) => path !== '')
  return values['config-path'] ?? fromEnvironment
}

export const configHelp = `  -c, --config-path PATH   a YAML file, or a folder of them; repeatable, the later one wins;
                           without it, the paths in GANGLION_CONFIG_PATH.
                           GANGLION_… variables win over all files.`
