/** Renewal of accounts that expire, as Synapse has it. */
import * as v from 'valibot'
import { UserId } from '../../../shared/matrix/ids.ts'
import { renewAccountPath } from '../../../shared/public-links.ts'
import { route } from '../deps.ts'
import { answeredByPage, page, postButton } from '../pages.ts'
import { checkMediumServed } from './media-served.ts'

const spec = 'https://element-hq.github.io/synapse/latest/admin_api/account_validity.html'

/** Asks for a click: an account whose user is gone must not live on because something looks through old mails. */
export const getRenewAccount = route({
  method: 'GET',
  path: renewAccountPath,
  spec,
  auth: 'none',
  limit: 'read',
  query: v.object({ user_id: UserId, token: v.string() }),
  handle: ({ query }) => page({ title: 'Renew your account', body: postButton('Renew', query) }),
})

export const postRenewAccount = route({
  method: 'POST',
  path: renewAccountPath,
  spec,
  auth: 'none',
  limit: 'account',
  form: true,
  body: v.object({ user_id: UserId, token: v.string(), view: v.optional(v.literal('page')) }),
  handle: ({ body: { user_id, token, view } }, { main }) =>
    answeredByPage(view, async () => {
      const { expires_ts } = await main.renewAccount({ user_id, token })
      const day = new Date(expires_ts).toISOString().slice(0, 10)
      return {
        page: { title: 'Your account is renewed', body: `<p>It is good until ${day}.</p>` },
        json: { expiration_ts: expires_ts },
      }
    }),
})

export const postSendRenewalMail = route({
  method: 'POST',
  path: '/_matrix/client/unstable/account_validity/send_mail',
  spec,
  auth: 'user',
  limit: 'threepid_validation',
  afterExpiry: true,
  handle({ user: { user_id } }, { main, config }) {
    checkMediumServed('email', config)
    return main.sendRenewalMail({ user_id })
  },
})

export const postAccountValidity = route({
  method: 'POST',
  path: '/_synapse/admin/v1/account_validity/validity',
  spec,
  auth: 'admin',
  body: v.object({
    user_id: UserId,
    expiration_ts: v.nullish(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
    enable_renewal_emails: v.nullish(v.boolean()),
  }),
  async handle({ body: { user_id, expiration_ts, enable_renewal_emails } }, { main }) {
    const { expires_ts } = await main.setAccountValidity({
      user_id,
      ...(expiration_ts == null ? {} : { expires_ts: expiration_ts }),
      ...(enable_renewal_emails == null ? {} : { send_mail: enable_renewal_emails }),
    })
    return { expiration_ts: expires_ts }
  },
})
