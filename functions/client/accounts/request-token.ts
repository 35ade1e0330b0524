/** Asking for a link or a code that shows whose an address is.
 *  https://spec.matrix.org/v1.19/client-server-api/#adding-account-administrative-contact-information */
import * as v from 'valibot'
import type { ThreepidPurpose } from '../../../shared/commands/threepids.ts'
import type { Config } from '../../../shared/config/schema.ts'
import { MatrixError } from '../../../shared/matrix/matrix-error.ts'
import { canonicalPhone } from '../../../shared/matrix/phone-number.ts'
import { canonicalEmail, type Threepid } from '../../../shared/matrix/threepid.ts'
import { publicLink, submitTokenPath } from '../../../shared/public-links.ts'
import { type ClientDeps, route } from '../deps.ts'
import { checkAllowed, checkMediumServed } from './media-served.ts'

/** Where clients ask, by what for. */
const places = [
  { purpose: 'register', path: '/_matrix/client/v3/register' },
  { purpose: 'add', path: '/_matrix/client/v3/account/3pid' },
  { purpose: 'reset', path: '/_matrix/client/v3/account/password' },
] as const

const common = {
  client_secret: v.pipe(v.string(), v.regex(/^[0-9a-zA-Z.=_-]{1,255}$/)),
  send_attempt: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  next_link: v.nullish(v.pipe(v.string(), v.maxLength(2000))),
}
interface Asked {
  readonly client_secret: string
  readonly send_attempt: number
  readonly next_link?: string | null | undefined
}

const emailRoute = ({ purpose, path }: (typeof places)[number]) =>
  route({
    method: 'POST',
    path: `${path}/email/requestToken`,
    spec: `client-server-api/#post${anchor(path)}emailrequesttoken`,
    auth: 'none',
    limit: 'threepid_validation',
    body: v.object({ ...common, email: v.string() }),
    handle({ body }, deps) {
      checkMediumServed('email', deps.config)
      const address = canonicalEmail(body.email)
      if (address === undefined) throw new MatrixError('M_INVALID_PARAM', 'This is no email address')
      return ask(purpose, { medium: 'email', address }, body, deps)
    },
  })

const msisdnRoute = ({ purpose, path }: (typeof places)[number]) =>
  route({
    method: 'POST',
    path: `${path}/msisdn/requestToken`,
    spec: `client-server-api/#post${anchor(path)}msisdnrequesttoken`,
    auth: 'none',
    limit: 'threepid_validation',
    body: v.object({ ...common, country: v.string(), phone_number: v.string() }),
    async handle({ body }, deps) {
      checkMediumServed('msisdn', deps.config)
      const address = canonicalPhone(body.country, body.phone_number)
      if (address === undefined) throw new MatrixError('M_INVALID_PARAM', 'This is no phone number of that country')
      const { sid } = await ask(purpose, { medium: 'msisdn', address }, body, deps)
      // The code has to be typed somewhere, and brought here by the client.
      const submit_url = publicLink(deps.config, submitTokenPath.replace(':medium', 'msisdn'))
      return { sid, submit_url, msisdn: address, intl_fmt: `+${address}`, success: true }
    },
  })

export const requestTokenRoutes = places.flatMap((place) => [emailRoute(place), msisdnRoute(place)])

/** As the specification's page names what is below this path. */
function anchor(path: string): string {
  return path.replaceAll('/', '')
}

async function ask(purpose: ThreepidPurpose, to: Threepid, asked: Asked, deps: ClientDeps): Promise<{ sid: string }> {
  const { config, limiter, main } = deps
  checkOpen(purpose, to, config)
  const { client_secret, send_attempt, next_link } = asked
  if (next_link) checkNextLink(next_link, config)
  // Whoever has a new password sent to an address has had it taken before.
  if (purpose !== 'reset') await checkAllowed(to, config)
  await limiter.take('threepid_validation', `${to.medium} ${to.address}`)
  return main.requestThreepidToken({
    purpose,
    ...to,
    client_secret,
    send_attempt,
    ...(next_link ? { next_link } : {}),
  })
}

function checkOpen(purpose: ThreepidPurpose, { medium }: Threepid, config: Config): void {
  const { registration, password, threepids } = config
  const open = {
    register: registration.enabled && (medium === 'email' || registration.msisdn),
    add: threepids.changes,
    reset: password.enabled,
  }
  if (!open[purpose]) throw new MatrixError('M_FORBIDDEN', 'This server does not allow that')
}

/** Users are sent there from a page of this server. */
function checkNextLink(next_link: string, { threepid_validation: { next_link_hosts } }: Config): void {
  const url = URL.canParse(next_link) ? new URL(next_link) : undefined
  const isWeb = url?.protocol === 'https:' || url?.protocol === 'http:'
  if (!url || !isWeb || (next_link_hosts && !next_link_hosts.includes(url.hostname))) {
    throw new MatrixError('M_INVALID_PARAM', 'Key next_link is no link that users may be sent on to')
  }
}
