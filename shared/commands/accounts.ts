/** Commands on accounts, devices and tokens. */
export const accountCommands = {} as const
