/** Commands on what belongs to one user: account data, push rules, filters, receipts, typing, presence, profile. */
export const userDataCommands = {} as const
