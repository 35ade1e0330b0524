/** The certificate at each address: whose it is, who vouches for it, how long it is good.
 *  https://spec.matrix.org/v1.19/server-server-api/#tls */
import { isIP } from 'node:net'
import { checkServerIdentity, connect, getCACertificates, type PeerCertificate } from 'node:tls'
import type { ServerName } from '../../../shared/matrix/ids.ts'
import { serverNameParts } from '../../../shared/matrix/ids.ts'
import { type Finding, note, ok, wrong } from './finding.ts'
import type { Instruments } from './patient.ts'
import type { Place } from './whereabouts.ts'

const answersWithinMs = 10_000
const addressesMax = 8
const dayMs = 24 * 3_600_000
const renewBeforeDays = 14

interface Presented {
  readonly certificate: PeerCertificate
  /** Why it is not trusted, but for its name. */
  readonly distrust: string | undefined
}

/** One finding an address. A place where any is good can be asked on. */
export async function checkCertificates(
  place: Place,
  instruments: Pick<Instruments, 'clock' | 'ca'>,
): Promise<{ readonly findings: Finding[]; readonly usable: boolean }> {
  const found = await Promise.all(
    place.addresses.slice(0, addressesMax).map((address) => checkCertificate(place, address, instruments)),
  )
  return { findings: found, usable: found.some(({ outcome }) => outcome === 'ok' || outcome === 'note') }
}

async function checkCertificate(
  { host, connectTo: { port, host: connected } }: Place,
  address: string,
  { clock, ca }: Pick<Instruments, 'clock' | 'ca'>,
): Promise<Finding> {
  const name = serverNameParts(host as ServerName).hostname.replace(/^\[|\]$/g, '')
  const at = isIP(address) === 6 ? `[${address}]:${port}` : `${address}:${port}`
  const check = `TLS at ${at}`
  let presented: Presented
  try {
    presented = await certificateAt({ address, port, name, ca, clock })
  } catch (error) {
    const code = String((error as NodeJS.ErrnoException).code ?? (error as Error).message)
    // A machine without IPv6 says nothing about the server.
    if (isIP(address) === 6 && (code === 'ENETUNREACH' || code === 'EADDRNOTAVAIL')) {
      return note(check, `not tried: this machine has no IPv6 (${code})`, 'run the doctor where there is')
    }
    return wrong(check, `no connection under TLS: ${code}`, fixOfConnection(code, { connected, port }))
  }
  const { certificate, distrust } = presented
  const validTo = Date.parse(certificate.valid_to)
  const until = `${new Date(validTo).toISOString().slice(0, 10)}`
  if (validTo <= clock.now()) {
    return wrong(
      check,
      `the certificate ran out on ${until}`,
      'renew it, and see to it that whoever serves it takes the new one up',
    )
  }
  const other = checkServerIdentity(name, certificate)
  if (other) {
    const names = (certificate.subjectaltname ?? String(certificate.subject?.CN ?? 'nobody')).slice(0, 200)
    return wrong(
      check,
      `the certificate is for ${names}, not for ${name}`,
      `serve a certificate for ${name} there: that is the name that other servers ask for`,
    )
  }
  if (distrust !== undefined)
    return wrong(check, `the certificate is not trusted: ${distrust}`, fixOfDistrust(distrust))
  const days = Math.floor((validTo - clock.now()) / dayMs)
  return days < renewBeforeDays
    ? note(check, `the certificate of ${name} runs out in ${days} days, on ${until}`, 'renew it')
    : ok(check, `the certificate is for ${name}, good until ${until}`)
}

function certificateAt(to: {
  readonly address: string
  readonly port: number
  readonly name: string
  readonly ca: string | undefined
  readonly clock: Instruments['clock']
}): Promise<Presented> {
  const { address, port, name, ca, clock } = to
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: address,
      port,
      ...(isIP(name) === 0 ? { servername: name } : {}),
      // Nothing is asked here, and what is wrong with it is to be told.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }),
    })
    const stop = clock.after(answersWithinMs, () => socket.destroy(new Error('no answer in time')))
    socket.once('secureConnect', () => {
      const error: unknown = socket.authorizationError
      const distrust = socket.authorized ? undefined : error instanceof Error ? error.message : String(error)
      resolve({ certificate: socket.getPeerCertificate(), distrust })
      socket.destroy()
    })
    socket.once('error', reject)
    socket.once('close', () => {
      stop()
      reject(new Error('the connection was closed'))
    })
  })
}

function fixOfConnection(code: string, { connected, port }: { connected: string; port: number }): string {
  const open = `let port ${port} of ${connected} be reached from outside`
  return code.startsWith('ERR_SSL') || code === 'EPROTO'
    ? `serve TLS on port ${port}: something else answers there`
    : `${open}; where another port or host is to serve others, publish it in .well-known/matrix/server or by an SRV record`
}

function fixOfDistrust(distrust: string): string {
  return /UNABLE_TO_VERIFY|UNABLE_TO_GET_ISSUER/.test(distrust)
    ? 'serve the whole chain: the certificate, then those between it and the authority'
    : 'take one from an authority that other servers know, such as Let’s Encrypt'
}
