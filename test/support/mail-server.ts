/** A real SMTP server that keeps what it takes, and refuses what it is told to. */
import { SMTPServer } from 'smtp-server'

export interface Mail {
  readonly to: readonly string[]
  readonly subject: string
  readonly from: string
  readonly messageId: string
  /** All of it, with soft line breaks taken out. */
  readonly source: string
  /** The first link in it. */
  readonly link: string
}

export interface MailServer {
  readonly port: number
  /** All so far, oldest first. */
  readonly mails: readonly Mail[]
  /** The next that comes, or has come and was not asked for yet; rejects after ten seconds. */
  next(): Promise<Mail>
  /** Resolves when it was tried so often; every try counts, taken or refused. */
  tried(times: number): Promise<void>
  /** From now on mails are refused with this SMTP reply; undefined: taken. */
  refuse(responseCode: number | undefined): void
  close(): Promise<void>
}

const patienceMs = 10_000

export async function mailServer(
  options: { readonly user?: string; readonly password?: string; readonly port?: number } = {},
): Promise<MailServer> {
  const mails: Mail[] = []
  let asked = 0
  let tries = 0
  let refusal: number | undefined
  let changed = Promise.withResolvers<void>()
  const tell = () => {
    changed.resolve()
    changed = Promise.withResolvers()
  }
  const server = new SMTPServer({
    authOptional: options.user === undefined,
    disabledCommands: options.user === undefined ? ['AUTH', 'STARTTLS'] : ['STARTTLS'],
    allowInsecureAuth: true,
    onAuth({ username, password }, _, callback) {
      const known = username === options.user && password === options.password
      callback(known ? null : new Error('wrong password'), known ? { user: username } : undefined)
    },
    onData(stream, session, callback) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', () => {
        tries++
        if (refusal === undefined) {
          mails.push(
            parsed(
              Buffer.concat(chunks).toString(),
              session.envelope.rcptTo.map(({ address }) => address),
            ),
          )
          callback()
        } else callback(Object.assign(new Error('not now'), { responseCode: refusal }))
        tell()
      })
    },
  })
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, '127.0.0.1', resolve))
  const address = server.server.address()
  const port = typeof address === 'object' && address ? address.port : 0

  async function until(done: () => boolean, what: string): Promise<void> {
    const late = Promise.withResolvers<never>()
    const timer = setTimeout(() => late.reject(new Error(`${what} did not come`)), patienceMs)
    try {
      while (!done()) await Promise.race([changed.promise, late.promise])
    } finally {
      clearTimeout(timer)
      late.promise.catch(() => undefined)
    }
  }

  return {
    port,
    mails,
    async next() {
      const place = asked++
      await until(() => mails.length > place, 'a mail')
      return mails[place] as Mail
    },
    tried: (times) => until(() => tries >= times, `try ${times}`),
    refuse(responseCode) {
      refusal = responseCode
    },
    close: () => new Promise((resolve) => server.close(() => resolve())),
  }
}

function parsed(source: string, to: string[]): Mail {
  const header = (name: string) => new RegExp(`^${name}: (.*)$`, 'im').exec(source)?.[1]?.trim() ?? ''
  const text = source
    .replace(/=\r\n/g, '')
    .replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
  return {
    to,
    subject: header('Subject'),
    from: header('From'),
    messageId: header('Message-ID'),
    source: text,
    link: /https?:\/\/\S+/.exec(text)?.[0] ?? '',
  }
}
