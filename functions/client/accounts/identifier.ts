/** Users as those name them who log in. https://spec.matrix.org/v1.19/client-server-api/#identifier-types */
import * as v from 'valibot'
import { typedUserId } from '../../../shared/auth/username.ts'
import type { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { canonicalPhone } from '../../../shared/matrix/phone-number.ts'
import { canonicalAddress, Medium } from '../../../shared/matrix/threepid.ts'
import { accountTypedAs } from '../../../shared/storage/accounts.ts'
import { userOfThreepid } from '../../../shared/storage/threepids.ts'
import type { ClientDeps } from '../deps.ts'

const text = v.nullish(v.string())
export const Identifier = v.object({
  type: text,
  user: text,
  medium: text,
  address: text,
  country: text,
  phone: text,
  /** As clients called `phone` before. */
  number: text,
})
export type Identifier = v.InferOutput<typeof Identifier>

type Deps = Pick<ClientDeps, 'config' | 'sql'>

/** Undefined where it names nobody. An address may be typed in another way than it is stored. Throws M_UNKNOWN for a type that
 *  is none, M_MISSING_PARAM. */
export async function identifiedUser(identifier: Identifier, deps: Deps): Promise<UserId | undefined> {
  // The specification's own example of a login by address has no type.
  const type = identifier.type ?? (identifier.medium == null ? 'm.id.user' : 'm.id.thirdparty')
  switch (type) {
    case 'm.id.user': {
      const user_id = typedUserId(needed(identifier, 'user'), deps.config.server_name)
      return user_id && ((await accountTypedAs(deps.sql, user_id)) ?? user_id)
    }
    case 'm.id.thirdparty': {
      const medium = v.safeParse(Medium, needed(identifier, 'medium'))
      const address = medium.success ? canonicalAddress(medium.output, needed(identifier, 'address')) : undefined
      return medium.success && address !== undefined
        ? userOfThreepid(deps.sql, { medium: medium.output, address })
        : undefined
    }
    case 'm.id.phone': {
      const typed = identifier.phone ?? identifier.number ?? needed(identifier, 'phone')
      const address = canonicalPhone(needed(identifier, 'country'), typed)
      return address === undefined ? undefined : userOfThreepid(deps.sql, { medium: 'msisdn', address })
    }
    default:
      throw new MatrixError('M_UNKNOWN', 'This type of identifier is not known', { status: 400 })
  }
}

function needed(identifier: Identifier, key: 'user' | 'medium' | 'address' | 'country' | 'phone'): string {
  const value = identifier[key]
  if (value == null) throw new MatrixError('M_MISSING_PARAM', `Key identifier.${key} is missing`)
  return value
}
