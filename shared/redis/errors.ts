/** What can go wrong with Redis, told without what was sent to it: commands hold tokens and message contents. */

/** Redis gave no answer: it is away, too slow, or refuses the connection. Callers go on without it, or tell their client to
 *  try again. */
export class RedisAwayError extends Error {
  /** True when the command may have reached Redis: it may have taken effect, or may yet. */
  readonly sent: boolean
  constructor(reason: string, sent: boolean) {
    super(`Redis is away: ${reason}`)
    this.name = 'RedisAwayError'
    this.sent = sent
  }
}

/** Redis refused a transaction or a command as a whole; `message` is its own error, such as `EXECABORT …`. */
export class RedisReplyError extends Error {
  constructor(reply: string) {
    super(withoutArguments(reply))
    this.name = 'RedisReplyError'
  }
}

/** The URL of a Redis that can't be used; it is not quoted, as it may hold a password. */
export class RedisUrlError extends Error {
  constructor(problem: string) {
    super(`redis.url: ${problem}`)
    this.name = 'RedisUrlError'
  }
}

/** An error reply without the arguments that Redis quotes in some of them; at most 200 characters. */
export function withoutArguments(reply: string): string {
  return reply
    .replace(/,? with args beginning with:.*$/s, '')
    .replace(/'[^']*'/g, "'…'")
    .slice(0, 200)
}

/** Why a connection failed, from an error of Node or of the client library: its code, or its kind. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'the connection failed'
  // The several addresses of one name each failed.
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0])
  const code = (error as NodeJS.ErrnoException).code
  if (typeof code === 'string') return code
  if (/^[A-Z]{3,} /.test(error.message)) return withoutArguments(error.message)
  // The client library's own, which name all their errors `Error`: `Socket closed unexpectedly`.
  return /^[A-Za-z ]{1,60}$/.test(error.message) ? error.message : error.name
}
