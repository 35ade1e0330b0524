/** The link that a mail has, and where clients bring codes: it shows whose an address is.
 *  https://spec.matrix.org/v1.19/identity-service-api/#post_matrixidentityv2validateemailsubmittoken */
import * as v from 'valibot'
import { Medium } from '../../../shared/matrix/threepid.ts'
import { submitTokenPath } from '../../../shared/public-links.ts'
import { route } from '../deps.ts'
import { answeredByPage, page, postButton } from '../pages.ts'

const spec = 'identity-service-api/#post_matrixidentityv2validateemailsubmittoken'
const params = v.object({ medium: Medium })

/** Asks for a click, since mail scanners follow links: that alone confirms nothing. */
export const getSubmitToken = route({
  method: 'GET',
  path: submitTokenPath,
  spec,
  auth: 'none',
  limit: 'read',
  params,
  query: v.object({ sid: v.string(), token: v.string() }),
  handle: ({ query: { sid, token } }) =>
    page({
      title: 'Confirm your email address',
      body: `<p>Was it you who asked for this?</p>${postButton('Yes, confirm', { sid, token })}`,
    }),
})

export const postSubmitToken = route({
  method: 'POST',
  path: submitTokenPath,
  spec,
  auth: 'none',
  limit: 'account',
  params,
  form: true,
  body: v.object({
    sid: v.string(),
    token: v.string(),
    client_secret: v.optional(v.string()),
    view: v.optional(v.literal('page')),
  }),
  handle: ({ body: { view, sid, token, client_secret } }, { main }) =>
    answeredByPage(view, async () => {
      const secret = client_secret === undefined ? {} : { client_secret }
      const { next_link } = await main.submitThreepidToken({ sid, token, ...secret })
      return {
        page: {
          title: 'Confirmed',
          body: '<p>Your address is confirmed. You can go on where you came from.</p>',
          next: next_link,
        },
        json: { success: true },
      }
    }),
})
