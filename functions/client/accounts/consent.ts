/** The page where users read the policies and agree to them. Who comes is known by the link alone, which the server has signed:
 *  there is no cookie that another site could make a browser send. */
import * as v from 'valibot'
import type { Config } from '../../../shared/config/schema.ts'
import { UserId } from '../../../shared/matrix/ids.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { currentConsent } from '../../../shared/policies.ts'
import { consentPath } from '../../../shared/public-links.ts'
import { route } from '../deps.ts'
import { answeredByPage, html, page, postButton } from '../pages.ts'

const spec = 'client-server-api/#terms-of-service-at-registration'

export const getConsent = route({
  method: 'GET',
  path: consentPath,
  spec,
  auth: 'none',
  limit: 'read',
  query: v.object({ u: UserId, h: v.string() }),
  handle({ query: { u, h } }, { config }) {
    const button = postButton('I agree', { u, h, consent: shown(config) })
    const body = html`<p>To go on as ${u}, read and agree to:</p>` + policyList(config) + button
    return page({ title: 'Policies', body })
  },
})

export const postConsent = route({
  method: 'POST',
  path: consentPath,
  spec,
  auth: 'none',
  limit: 'account',
  form: true,
  body: v.object({ u: UserId, h: v.string(), consent: v.string(), view: v.optional(v.literal('page')) }),
  handle: ({ body: { u, h, consent, view } }, { main }) =>
    answeredByPage(view, async () => {
      await main.giveConsent({ user_id: u, token: h, consent })
      const body = '<p>You have agreed to the policies. You can go on where you came from.</p>'
      return { page: { title: 'Thank you', body }, json: {} }
    }),
})

function shown(config: Config): string {
  const consent = currentConsent(config)
  if (consent === undefined) throw new MatrixError('M_NOT_FOUND', 'This server has no policies')
  return consent
}

/** In all languages: nobody has to be asked for theirs. */
export function policyList({ policies: { documents } }: Config): string {
  const items = documents.flatMap(({ version, translations }) =>
    translations.map(
      ({ language, name, url }) =>
        html`<li lang="${language.replaceAll('_', '-')}"><a href="${url}" target="_blank" rel="noreferrer">${name}</a> (${version})</li>`,
    ),
  )
  return `<ul>${items.join('')}</ul>`
}
