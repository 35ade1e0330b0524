/** Stages of user-interactive authentication in a browser, for apps that do not know them.
 *  https://spec.matrix.org/v1.19/client-server-api/#fallback */
import * as v from 'valibot'
import type { Config } from '../../../shared/config/schema.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { type ClientDeps, route } from '../deps.ts'
import { answeredByPage, page, postButton } from '../pages.ts'
import { policyList } from './consent.ts'

const path = '/_matrix/client/v3/auth/:stage/fallback/web'
const spec = 'client-server-api/#fallback'
const params = v.object({ stage: v.string() })

/** The specification's own way to tell the app. */
const tellApp = `if (window.onAuthDone) window.onAuthDone()
else if (window.opener && window.opener.postMessage) window.opener.postMessage('authDone', '*')`

export const getAuthFallback = route({
  method: 'GET',
  path,
  spec,
  auth: 'none',
  limit: 'read',
  params,
  query: v.object({ session: v.string() }),
  handle({ params: { stage }, query: { session } }, { config }) {
    checkHasPage(stage, config)
    const body = `<p>To go on, read and agree to:</p>${policyList(config)}${postButton('I agree', { session })}`
    return page({ title: 'Policies', body, toldTo: 'opener' })
  },
})

export const postAuthFallback = route({
  method: 'POST',
  path,
  spec,
  auth: 'none',
  limit: 'account',
  params,
  form: true,
  body: v.object({ session: v.string(), view: v.optional(v.literal('page')) }),
  handle({ params: { stage }, body: { session, view } }, { config, main }: ClientDeps) {
    checkHasPage(stage, config)
    return answeredByPage(view, async () => {
      await main.agreeAtRegistration({ session })
      return {
        page: { title: 'Thank you', body: '<p>You can close this window.</p>', script: tellApp, toldTo: 'opener' },
        json: {},
      }
    })
  },
})

/** Of the other stages apps know how to ask for what they need. */
function checkHasPage(stage: string, { policies }: Config): void {
  if (stage !== 'm.login.terms' || !policies.at_registration || policies.documents.length === 0) {
    throw new MatrixError('M_UNRECOGNIZED', 'There is no page for this stage')
  }
}
