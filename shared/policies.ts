/** The policies that users agree to, as the configuration has them now.
 *  https://spec.matrix.org/v1.19/client-server-api/#terms-of-service-at-registration */
import type { Config } from './config/schema.ts'
import type { UserId } from './matrix/ids.ts'
import { consentPath, publicLink } from './public-links.ts'

type Policies = Pick<Config, 'policies'>

export interface AgreedPolicy {
  readonly policy: string
  readonly version: string
}

/** Names all documents and versions at once: who agreed to this has agreed to everything. Undefined: there are none. */
export function currentConsent({ policies: { documents } }: Policies): string | undefined {
  if (documents.length === 0) return undefined
  return documents
    .map(({ id, version }) => `${id}/${version}`)
    .sort()
    .join(' ')
}

/** What `currentConsent` names. Characters that divide it are in no name of a policy. */
export function policiesIn(consent: string): AgreedPolicy[] {
  return consent.split(' ').map((entry) => {
    const [policy = '', version = ''] = entry.split('/')
    return { policy, version }
  })
}

/** What a user must have agreed to before writing; undefined: nothing. */
export function neededConsent(config: Policies): string | undefined {
  return config.policies.block_without_consent ? currentConsent(config) : undefined
}

/** What a session of user-interactive authentication is for. Who was shown other policies than there are now begins anew. */
export function registerOperation(config: Policies): string {
  const consent = config.policies.at_registration ? currentConsent(config) : undefined
  return consent === undefined ? 'register' : `register under ${consent}`
}

/** Where a user can read the policies and agree to them. */
export function consentUri(config: Config, user_id: UserId, token: string): string {
  return publicLink(config, consentPath, { u: user_id, h: token })
}

/** As clients get it under `params` of m.login.terms. */
export function policiesParam({ policies: { documents } }: Policies): object {
  return {
    policies: Object.fromEntries(
      documents.map(({ id, version, translations }) => [
        id,
        { version, ...Object.fromEntries(translations.map(({ language, name, url }) => [language, { name, url }])) },
      ]),
    ),
  }
}
