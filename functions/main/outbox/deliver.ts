/** Hands a message over: a mail to the SMTP server, a short message to the gateway. */
import { readFileSync } from 'node:fs'
import type { Transporter } from 'nodemailer'
import type { Config } from '../../../shared/config/schema.ts'
import type { Threepid } from '../../../shared/matrix/threepid.ts'
import type { LinkTokens } from '../link-tokens.ts'
import type { Message } from './messages.ts'
import { variablesOf } from './messages.ts'
import { loadTemplates } from './templates.ts'

/** It will not be taken however often it is tried. */
export class RefusedError extends Error {}

export interface Deliver {
  /** `name` is the same however often one message is tried. Throws RefusedError, or another error where it may be tried again. */
  send(to: Threepid, message: Message, name: string): Promise<void>
  close(): void
}

/** A mail server takes several mails over one connection, and likes few connections. */
const connectionsMax = 3

export function createDeliver(config: Config, tokens: LinkTokens): Deliver {
  const { email, sms, server_name } = config
  const templates = loadTemplates(config)
  const host = server_name.replace(/:\d+$/, '')
  let transport: Promise<Transporter> | undefined

  async function sendMail(to: string, message: Message, name: string): Promise<void> {
    transport ??= openTransport(email)
    const { subject, text, html } = templates.mail(message.template, variablesOf(message, config, tokens))
    try {
      await (await transport).sendMail({
        from: email.from ?? { name: email.app_name, address: `noreply@${host}` },
        to: { name: '', address: to },
        subject,
        text,
        html,
        // Mail systems know one that comes twice by this.
        messageId: `<${name}@${host}>`,
        headers: { 'Auto-Submitted': 'auto-generated', 'X-Auto-Response-Suppress': 'All' },
      })
    } catch (error) {
      if (isRefusal(error)) throw new RefusedError('the mail server refuses the mail', { cause: error })
      throw error
    }
  }

  async function sendSms(to: string, message: Message): Promise<void> {
    if (sms.url === undefined) throw new RefusedError('there is no gateway for short messages')
    const answer = await fetch(sms.url, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        ...(sms.token === undefined ? {} : { Authorization: `Bearer ${sms.token}` }),
      },
      body: JSON.stringify({
        to: `+${to}`,
        text: templates.sms(message.template, variablesOf(message, config, tokens)),
      }),
      redirect: 'error',
      signal: AbortSignal.timeout(sms.timeout),
    })
    await answer.body?.cancel()
    if (answer.ok) return
    const why = `the gateway for short messages answers ${answer.status}`
    if (answer.status >= 400 && answer.status < 500 && answer.status !== 429) throw new RefusedError(why)
    throw new Error(why)
  }

  return {
    send: (to, message, name) =>
      to.medium === 'email' ? sendMail(to.address, message, name) : sendSms(to.address, message),
    close() {
      transport?.then(
        (open) => open.close(),
        () => undefined,
      )
    },
  }
}

async function openTransport(email: Config['email']): Promise<Transporter> {
  // Loaded by who sends mail, and when there is one.
  const { createTransport } = await import('./mail-transport.ts')
  const { host, port, user, password, tls, tls_ca_path, timeout } = email
  return createTransport({
    host: host ?? '',
    port,
    secure: tls === 'implicit',
    requireTLS: tls === 'starttls',
    ignoreTLS: tls === 'none',
    tls: {
      // What is encrypted only where that is offered would be read by whoever takes the offer away: a certificate proves nothing.
      rejectUnauthorized: tls !== 'opportunistic',
      ...(tls_ca_path === undefined ? {} : { ca: readFileSync(tls_ca_path) }),
    },
    ...(user === undefined ? {} : { auth: { user, pass: password ?? '' } }),
    pool: true,
    maxConnections: connectionsMax,
    connectionTimeout: timeout,
    greetingTimeout: timeout,
    socketTimeout: timeout,
    disableFileAccess: true,
    disableUrlAccess: true,
  })
}

/** A reply of the 5xx kind to what the mail is; one to the login or the connection may be over soon. */
function isRefusal(error: unknown): boolean {
  if (!(error instanceof Error) || !('responseCode' in error) || !('code' in error)) return false
  const { responseCode, code } = error
  return typeof responseCode === 'number' && responseCode >= 500 && (code === 'EENVELOPE' || code === 'EMESSAGE')
}
