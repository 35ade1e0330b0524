import * as accountData from './account-data.ts'
import * as filters from './filters.ts'
import * as presenceAndTyping from './presence-and-typing.ts'
import * as receipts from './receipts.ts'

export const userDataRoutes = [
  ...Object.values(accountData),
  ...Object.values(filters),
  ...Object.values(presenceAndTyping),
  ...Object.values(receipts),
] as const
