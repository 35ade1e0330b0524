/** The client-server API with a mail server, for what mails are part of. */
import { fakeClock } from '../../shared/clock.ts'
import { type ClientServer, type ClientServerOptions, clientServer, type Reply } from './client-server.ts'
import { type MailServer, mailServer } from './mail-server.ts'
import { fieldsOf } from './pages.ts'

export type Purpose = 'register' | 'account/3pid' | 'account/password'

export interface ThreepidServer extends ClientServer {
  readonly clock: ReturnType<typeof fakeClock>
  readonly mail: MailServer
  readonly logged: readonly string[]
  requestToken(purpose: Purpose, email: string, more?: object): Promise<Reply>
  /** Follows a link of a mail and clicks. */
  confirm(link: string): Promise<{ status: number; html: string }>
  /** Asks, gets the mail, confirms; the creds that stages take. */
  prove(purpose: Purpose, email: string): Promise<{ sid: string; client_secret: string }>
}

export async function threepidServer(config: ClientServerOptions['config'] = {}): Promise<ThreepidServer> {
  const clock = fakeClock(Date.UTC(2030, 0, 1))
  const mail = await mailServer()
  const logged: string[] = []
  const log = {
    error(fields: object, message: string) {
      const { err, ...rest } = fields as { err?: unknown }
      logged.push(`${message} ${JSON.stringify(rest)} ${err instanceof Error ? err.message : ''}`)
    },
  }
  const server = await clientServer({
    clock,
    log,
    config: {
      registration: { enabled: true },
      ...config,
      email: { host: '127.0.0.1', port: mail.port, tls: 'none', app_name: 'Example', ...config?.email },
    },
  })
  let count = 0

  const requestToken: ThreepidServer['requestToken'] = (purpose, email, more) =>
    server.ask('POST', `${purpose}/email/requestToken`, { client_secret: 'secret', send_attempt: 1, email, ...more })

  async function confirm(link: string) {
    const shown = await server.browse(link)
    const { pathname } = new URL(link)
    return server.browse(pathname, fieldsOf(shown.html))
  }

  return {
    ...server,
    clock,
    mail,
    logged,
    requestToken,
    confirm,
    async prove(purpose, email) {
      const client_secret = `secret-${++count}`
      const { status, body } = await requestToken(purpose, email, { client_secret })
      if (status !== 200) throw new Error(`${status} ${JSON.stringify(body)}`)
      const { status: clicked, html } = await confirm((await mail.next()).link)
      if (clicked !== 200) throw new Error(html)
      return { sid: String(body.sid), client_secret }
    },
    async close() {
      await server.close()
      await mail.close()
    },
  }
}
