/** Who has an account, how they prove it, and what mails they get. */
import * as v from 'valibot'
import { Medium } from '../../matrix/threepid.ts'
import { isPattern } from '../patterns.ts'
import { duration, secret } from '../units.ts'
import { bool, port, text } from './values.ts'

/** https://spec.matrix.org/v1.19/appendices/#opaque-identifiers */
const opaqueId = /^[0-9A-Za-z._~-]{1,255}$/
const subject = (whom: string, otherwise: string) =>
  v.optional(v.pipe(text, v.description(`Subject of the mail ${whom}.`)), otherwise)

export const registration = v.optional(
  v.object({
    enabled: v.optional(v.pipe(bool, v.description('Anyone may register.')), false),
    guests: v.optional(v.pipe(bool, v.description('Guests may register.')), false),
    requires_token: v.optional(
      v.pipe(bool, v.description('Who registers needs a registration token, which administrators give out.')),
      false,
    ),
    shared_secret: v.optional(secret('Secret for the shared-secret registration API; without it that API is off.')),
    require_threepids: v.optional(
      v.pipe(
        v.array(Medium),
        v.description('What who registers has to show to own: email (an address), msisdn (a phone number), or both.'),
      ),
      [],
    ),
    msisdn: v.optional(v.pipe(bool, v.description('Phone numbers can be shown at registration, with `sms`.')), true),
  }),
  {},
)

export const threepids = v.optional(
  v.object({
    changes: v.optional(
      v.pipe(bool, v.description('Users may add email addresses and phone numbers, and take them away.')),
      true,
    ),
    hide_existing: v.optional(
      v.pipe(
        bool,
        v.description(
          'Nobody is told whether an address belongs to an account. Who asks to register with one that does gets a mail that says so.',
        ),
      ),
      false,
    ),
    allowed: v.optional(
      v.pipe(
        v.array(
          v.object({
            medium: v.pipe(Medium, v.description('email or msisdn.')),
            pattern: v.pipe(
              text,
              v.check(isPattern, 'expected a regular expression'),
              v.metadata({ expected: 'a regular expression such as [^@]+@example\\.org' }),
              v.description('Regular expression (RE2) that the whole address matches.'),
            ),
          }),
        ),
        v.description('Addresses that may be used; without any, all may.'),
      ),
      [],
    ),
  }),
  {},
)

export const email = v.optional(
  v.object({
    host: v.optional(v.pipe(text, v.description('SMTP server that mail is handed to; without it there is no mail.'))),
    port: v.optional(v.pipe(port, v.description('Its TCP port.')), 587),
    user: v.optional(v.pipe(text, v.description('User name for it; without it there is no login.'))),
    password: v.optional(secret('Password that goes with user.')),
    tls: v.optional(
      v.pipe(
        v.picklist(['starttls', 'implicit', 'opportunistic', 'none']),
        v.description(
          'starttls: the connection must become TLS; implicit: it is TLS from the first byte (port 465); opportunistic: TLS where the server offers it; none.',
        ),
      ),
      'starttls',
    ),
    tls_ca_path: v.optional(
      v.pipe(text, v.description('PEM certificates that vouch for it, in place of the usual ones.')),
    ),
    from: v.optional(
      v.pipe(
        text,
        v.metadata({ expected: 'an address such as Example <noreply@example.org>' }),
        v.description('Sender of the mails. Default: noreply@ and the host of server_name.'),
      ),
    ),
    app_name: v.optional(v.pipe(text, v.description('What mails call this service.')), 'Matrix'),
    timeout: v.optional(duration('How long the SMTP server may be silent.'), '30s'),
    give_up_after: v.optional(duration('How long a mail is tried that the server does not take for now.'), '1d'),
    templates_path: v.optional(
      v.pipe(
        text,
        v.description(
          'Folder whose files take the place of the texts: registration, already_registered, add, password_reset and renewal, each as .txt and .html.',
        ),
      ),
    ),
    subjects: v.optional(
      v.object({
        registration: subject('to who registers', '[{{app_name}}] Confirm your email address'),
        already_registered: subject(
          'to who registers with an address that has an account',
          '[{{app_name}}] You have an account already',
        ),
        add: subject('to an address that is added to an account', '[{{app_name}}] Confirm your email address'),
        password_reset: subject('to who forgot a password', '[{{app_name}}] Reset your password'),
        renewal: subject('to whose account is about to expire', '[{{app_name}}] Renew your account'),
      }),
      {},
    ),
  }),
  {},
)

export const sms = v.optional(
  v.object({
    url: v.optional(
      v.pipe(
        text,
        v.regex(/^https?:\/\/\S+$/),
        v.metadata({ expected: 'a URL such as https://sms.example.org/send' }),
        v.description(
          'Gateway that short messages are posted to, as JSON with `to` (+ and digits) and `text`; without it there are no phone numbers.',
        ),
      ),
    ),
    token: v.optional(secret('Bearer token for it.')),
    timeout: v.optional(duration('How long it may take to answer.'), '30s'),
  }),
  {},
)

export const threepid_validation = v.optional(
  v.object({
    token_lifetime: v.optional(duration('How long a link or code that was sent is good.'), '1h'),
    next_link_hosts: v.optional(
      v.pipe(
        v.array(text),
        v.description('Hosts that clients may have users sent on to once an address is confirmed. Default: any.'),
      ),
    ),
  }),
  {},
)

export const policies = v.optional(
  v.object({
    documents: v.optional(
      v.pipe(
        v.array(
          v.object({
            id: v.pipe(text, v.regex(opaqueId), v.description('Name of the policy, such as privacy_policy.')),
            version: v.pipe(
              text,
              v.regex(opaqueId),
              v.description('Its version; with another one users are asked anew.'),
            ),
            translations: v.pipe(
              v.array(
                v.object({
                  language: v.pipe(
                    text,
                    v.regex(/^[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8})*$/),
                    v.description('Such as en.'),
                  ),
                  name: v.pipe(text, v.minLength(1), v.description('What the document is called.')),
                  url: v.pipe(text, v.regex(/^https?:\/\/\S+$/), v.description('Where it can be read.')),
                }),
              ),
              v.minLength(1),
              v.description('In each language.'),
            ),
          }),
        ),
        v.description('What users agree to.'),
      ),
      [],
    ),
    at_registration: v.optional(v.pipe(bool, v.description('Who registers agrees to them.')), true),
    block_without_consent: v.optional(
      v.pipe(bool, v.description('Who has not agreed to them, as they are now, can write nothing until then.')),
      false,
    ),
  }),
  {},
)

export const account_validity = v.optional(
  v.object({
    enabled: v.optional(v.pipe(bool, v.description('Accounts expire.')), false),
    period: v.optional(duration('How long an account is good from its registration or renewal.'), '6w'),
    renew_at: v.optional(
      duration('How long before that its user is sent a mail by which to renew it; without it none is sent.'),
    ),
  }),
  {},
)

export const profile_fields = v.optional(
  v.object({
    enabled: v.optional(v.pipe(bool, v.description('Users may change their profiles.')), true),
    allowed: v.optional(v.pipe(v.array(text), v.description('The fields that they may change. Default: all.'))),
    disallowed: v.optional(
      v.pipe(v.array(text), v.description('Fields that they may not change; of no account beside `allowed`.')),
    ),
  }),
  {},
)

export const password = v.optional(
  v.object({
    enabled: v.optional(v.pipe(bool, v.description('Login by password.')), true),
    bcrypt_rounds: v.optional(
      v.pipe(
        v.number(),
        v.integer(),
        v.minValue(4),
        v.maxValue(20),
        v.description('Cost of a password hash, as a power of two.'),
      ),
      12,
    ),
    minimum_length: v.optional(
      v.pipe(v.number(), v.integer(), v.minValue(1), v.description('Shortest password accepted, in characters.')),
      8,
    ),
  }),
  {},
)

export const sessions = v.optional(
  v.object({
    access_token_lifetime: v.optional(duration('Lifetime of access tokens of sessions that can refresh.'), '5m'),
    refresh_token_lifetime: v.optional(duration('How long a refresh token stays valid unused; without it, for ever.')),
  }),
  {},
)
