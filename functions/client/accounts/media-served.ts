/** Kinds of addresses that this server can send something to, and which of them it takes. */
import { matchesPattern } from '../../../shared/config/patterns.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import type { Medium, Threepid } from '../../../shared/matrix/threepid.ts'

export function mediaServed({ email, sms }: Config): Medium[] {
  return [
    ...(email.host === undefined ? [] : (['email'] as const)),
    ...(sms.url === undefined ? [] : (['msisdn'] as const)),
  ]
}

/** The stage of user-interactive authentication that shows who owns an address. */
export function stageOf(medium: Medium): string {
  return medium === 'email' ? 'm.login.email.identity' : 'm.login.msisdn'
}

/** Throws M_THREEPID_MEDIUM_NOT_SUPPORTED. */
export function checkMediumServed(medium: Medium, config: Config): void {
  if (!mediaServed(config).includes(medium)) {
    const what = medium === 'email' ? 'mail' : 'short messages'
    throw new MatrixError('M_THREEPID_MEDIUM_NOT_SUPPORTED', `This server sends no ${what}`)
  }
}

/** Throws M_THREEPID_DENIED for an address that the configuration does not allow. */
export async function checkAllowed({ medium, address }: Threepid, { threepids: { allowed } }: Config): Promise<void> {
  if (allowed.length === 0) return
  const patterns = allowed.filter((rule) => rule.medium === medium).map((rule) => matchesPattern(rule.pattern, address))
  if (!(await Promise.all(patterns)).includes(true)) {
    throw new MatrixError('M_THREEPID_DENIED', 'This server does not take this address')
  }
}
