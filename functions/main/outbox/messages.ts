/** What is sent by mail and SMS: which message has which link or code, and what the database keeps of it until it is sent. */
import type postgres from 'postgres'
import * as v from 'valibot'
import type { Config } from '../../../shared/config/schema.ts'
import { UserId } from '../../../shared/matrix/ids.ts'
import type { Threepid } from '../../../shared/matrix/threepid.ts'
import { publicLink, renewAccountPath, submitTokenPath } from '../../../shared/public-links.ts'
import { pgText, type WriteTx } from '../../../shared/storage/sql.ts'
import type { LinkTokens, TokenMeaning } from '../link-tokens.ts'

const shown = { sid: v.string() }
/** Everything that a message says, but for its token. */
export const Message = v.variant('template', [
  v.object({ template: v.literal('registration'), ...shown }),
  v.object({ template: v.literal('add'), ...shown }),
  v.object({ template: v.literal('password_reset'), ...shown }),
  v.object({ template: v.literal('already_registered') }),
  v.object({
    template: v.literal('renewal'),
    user_id: UserId,
    display_name: v.string(),
    account_expires_ts: v.number(),
  }),
])
export type Message = v.InferOutput<typeof Message>
export type Template = Message['template']

/** To be written in the commit that answers whoever asked for it. */
export function intoOutbox(
  tx: WriteTx,
  to: Threepid,
  message: Message,
  { now, expires_ts }: { readonly now: number; readonly expires_ts: number },
): postgres.PendingQuery<postgres.Row[]> {
  const { template, ...variables } = message
  return tx`insert into outbox (medium, address, template, variables, created_ts, due_ts, expires_ts)
    values (${to.medium}, ${pgText(to.address)}, ${template}, ${pgText(JSON.stringify(variables))}, ${now}, ${now},
      ${expires_ts})`
}

/** What the token of a link that shows an address, or a code, stands for. */
export const threepidMeaning = (sid: string): TokenMeaning => ['threepid', sid]
/** Good until the account is renewed: then its time is another. */
export const renewalMeaning = (user_id: UserId, expires_ts: number): TokenMeaning => ['renewal', user_id, expires_ts]

/** What templates may name. */
export interface Variables {
  readonly app_name: string
  readonly server_name: string
  readonly link: string
  readonly code: string
  readonly user_id: string
  readonly display_name: string
  readonly expires: string
}

export function variablesOf(message: Message, config: Config, tokens: LinkTokens): Variables {
  const base = {
    app_name: config.email.app_name,
    server_name: config.server_name,
    link: '',
    code: '',
    user_id: '',
    display_name: '',
    expires: '',
  }
  switch (message.template) {
    case 'already_registered':
      return base
    case 'registration':
    case 'add':
    case 'password_reset': {
      const meaning = threepidMeaning(message.sid)
      const query = { sid: message.sid, token: tokens.of(meaning) }
      return {
        ...base,
        link: publicLink(config, submitTokenPath.replace(':medium', 'email'), query),
        code: tokens.codeOf(meaning),
      }
    }
    case 'renewal': {
      const { user_id, display_name, account_expires_ts } = message
      const query = { user_id, token: tokens.of(renewalMeaning(user_id, account_expires_ts)) }
      return {
        ...base,
        link: publicLink(config, renewAccountPath, query),
        user_id,
        display_name,
        expires: new Date(account_expires_ts).toISOString().slice(0, 10),
      }
    }
  }
}
